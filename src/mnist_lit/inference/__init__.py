"""Using a trained model: reading digits from pictures, ONNX export and the HTTP server."""
