"""Convert any picture to MNIST's 28×28 format, without torch. `find_digits` runs the steps:

1. `open_picture`, `reduced_picture`: a file, upload or array → a picture of limited size.
2. `panels`; `areas`, `sheet_edges`, `sheet_writing`, `sheet`: cut out panels of a figure or sheets of paper on a table.
3. `gray`, `ruling`, `folds`: one channel, dark ink on evenly lit paper, without ruled lines or folds.
4. `ink`, `digit_ink`, `shadows`: a mask of the ink, with its strength and stroke width, without shadows.
5. `components`, `boxes`: connected components without frames.
6. `single_digit`, or `text_lines`, `marks` and `segmentation`: hypotheses about one digit, or about those of a page.
7. `mnist_format`, `stroke_width`: each digit as 28×28 pixels, scaled, centered, with strokes of MNIST's width.
8. `hypotheses`, `words`: choose between them by shape and by a network's scores, and leave out text.
"""
