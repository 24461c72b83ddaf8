"""The HTTP server behind `mnist-lit serve`: API and web page, on onnxruntime. Free of torch; can be deleted."""
