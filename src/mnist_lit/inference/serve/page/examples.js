// Drawings to try: what they should be read as, and their strokes, "x,y x,y …" in hundredths of the pad's side.
export const EXAMPLES = [
  { name: "a three", strokes: ["31,23 41,16 54,16 63,24 62,35 52,43 44,46 56,48 66,56 67,70 58,81 44,84 31,78"] },
  { name: "an eight", strokes: ["63,24 53,17 41,20 37,30 43,40 54,47 64,57 65,71 56,82 43,83 34,73 37,60 47,49 58,40 64,30 63,24"] },
  { name: "a four", strokes: ["45,16 40,32 33,48 30,57 46,57 72,55", "61,36 59,55 56,70 54,86"] },
  {
    name: "a number, 275",
    strokes: [
      "8,38 14,31 22,31 27,38 25,47 18,56 8,68 17,67 30,67",
      "38,33 50,32 60,31 55,43 50,55 46,69",
      "88,32 79,32 73,33 72,41 71,48 80,46 88,51 89,60 82,68 70,66",
    ],
  },
  {
    name: "two lines, 16 and 904",
    strokes: [
      "30,12 35,9 34,22 32,42",
      "66,10 58,19 54,30 57,41 66,42 70,34 65,28 56,32",
      "25,62 19,56 11,60 11,68 18,72 25,66 26,59 25,74 23,90",
      "50,57 42,61 40,73 43,86 50,90 57,84 60,72 57,61 50,57",
      "79,56 75,66 70,77 80,78 91,77",
      "87,66 86,78 84,92",
    ],
  },
  { name: "a star, which is not a digit", strokes: ["33,80 50,17 50,17 68,80 68,80 19,41 19,41 81,41 81,41 33,80"] }, // a point twice is a sharp corner
].map(({ name, strokes }) => ({ name, strokes: strokes.map(parse) }));

function parse(stroke) {
  return stroke.split(" ").map((point) => point.split(",").map((percent) => percent / 100));
}
