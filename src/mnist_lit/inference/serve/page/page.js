// Draw or drop a picture; the server reads it after every stroke. Coordinates are fractions of the pad's side, 0 … 1.
"use strict";

const PEN = 0.055; // stroke width
const SENT = 336; // side of the drawing sent to the server, in pixels
const PATIENCE = 300; // milliseconds before the page shows that it is waiting for an answer
const RETRY = 3000; // milliseconds before an unreachable server is tried again
const HEIC = /\.(heic|heif|hif)$/i; // the server reads these pictures, but few browsers can show them
const OUT_OF_REACH = "The server cannot be reached. Your drawing is kept and will be read once it is back.";

const $ = (id) => document.getElementById(id);
const paper = $("paper");
const EMPTY = { strokes: [], picture: null };

let states = [EMPTY]; // the undo history: never empty, and its states are never modified
let stroke = null; // [x, y] of each point, while a pointer is down
let readings = []; // from the latest answer
let chosen = 0; // index of the one that the bars show
let asking = null; // AbortController of the request in progress
let retry = 0;
let digits = true; // false if the model has other classes than the digits

const now = () => states.at(-1);
const rejected = (reading) => reading.status !== "ok";
const percent = (p) => (p > 0.9995 ? "> 99.9 %" : p < 0.0005 ? "0 %" : `${(100 * p).toFixed(1)} %`);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Drawing

function draw(context, side, ink) {
  const { strokes, picture } = now();
  if (picture?.bitmap) {
    const { left, top, width, height } = fitted(picture.bitmap);
    context.drawImage(picture.bitmap, left * side, top * side, width * side, height * side);
  }
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = PEN * side;
  context.strokeStyle = ink;
  for (const points of stroke ? [...strokes, stroke] : strokes) {
    const at = points.map(([x, y]) => [x * side, y * side]);
    context.beginPath();
    context.moveTo(...at[0]);
    for (let i = 1; i < at.length - 1; i++) {
      const middle = [(at[i][0] + at[i + 1][0]) / 2, (at[i][1] + at[i + 1][1]) / 2];
      context.quadraticCurveTo(...at[i], ...middle); // through the midpoints, which rounds the corners
    }
    context.lineTo(...at.at(-1));
    context.stroke();
  }
}

function fitted({ width, height }) {
  const longer = Math.max(width, height);
  const [w, h] = [width / longer, height / longer];
  return { left: (1 - w) / 2, top: (1 - h) / 2, width: w, height: h };
}

function show() {
  const side = Math.round(paper.clientWidth * devicePixelRatio);
  if (paper.width !== side) paper.width = paper.height = side;
  const context = paper.getContext("2d");
  context.clearRect(0, 0, side, side);
  draw(context, side, getComputedStyle(paper).color);
  const { strokes, picture } = now();
  const hidden = picture && !picture.bitmap;
  $("pad").classList.toggle("drawn", Boolean(stroke || strokes.length || picture?.bitmap));
  $("hint").textContent = hidden ? `This browser cannot show ${picture.file.name}; the server reads it.` : "Draw here";
  $("clear").disabled = !(stroke || strokes.length || picture);
  $("undo").disabled = states.length < 2;
}

function go(state) {
  states.push(state);
  show();
  read();
}

function undo() {
  if (states.length > 1) states.pop();
  show();
  read();
}

function clear() {
  if (now() !== EMPTY) go(EMPTY);
}

function point(event) {
  const { left, top, width } = paper.getBoundingClientRect();
  return [(event.clientX - left) / width, (event.clientY - top) / width];
}

paper.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button !== 0) return;
  paper.setPointerCapture(event.pointerId);
  if (now().picture) states.push(EMPTY);
  asking?.abort(); // the drawing is about to change
  stroke = [point(event)];
  show();
});

paper.addEventListener("pointermove", (event) => {
  if (!stroke || !event.isPrimary) return;
  const events = event.getCoalescedEvents?.() ?? [];
  stroke.push(...(events.length ? events : [event]).map(point));
  show();
});

for (const end of ["pointerup", "pointercancel"]) {
  paper.addEventListener(end, (event) => {
    if (!stroke || !event.isPrimary) return;
    const strokes = [...now().strokes, stroke];
    stroke = null;
    go({ strokes, picture: null });
  });
}

// Pictures

async function take(file) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (bitmap || HEIC.test(file.name)) go({ strokes: [], picture: { file, bitmap } });
  else complain(`${file.name || "This file"} is not a picture that this browser can show.`);
}

$("file").addEventListener("change", (event) => {
  if (event.target.files.length) take(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});
addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) take(event.clipboardData.files[0]);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  $("pad").classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("pad").classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  $("pad").classList.remove("dropping");
  if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
});

// Reading

async function sent() {
  const { picture } = now();
  if (picture) return picture.file;
  const canvas = make("canvas", { width: SENT, height: SENT });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, SENT, SENT);
  draw(context, SENT, "#000");
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

async function read() {
  asking?.abort();
  clearTimeout(retry);
  if (!now().strokes.length && !now().picture) return setReadings([]);
  const { signal } = (asking = new AbortController());
  const waiting = setTimeout(() => ($("words").textContent = "Reading…"), PATIENCE);
  const body = new FormData();
  body.append("file", await sent());
  const answer = await fetch(`predict?many=${$("many").checked}`, { method: "POST", body, signal }).catch(() => null);
  const result = await answer?.json().catch(() => null); // null if it is not JSON
  clearTimeout(waiting);
  if (signal.aborted) return;
  if (!answer) {
    setReadings([], OUT_OF_REACH);
    retry = setTimeout(read, RETRY);
  } else if (answer.ok && result) setReadings(result.readings);
  else setReadings([], `The server answered: ${result?.detail ?? `${answer.status} ${answer.statusText}`}`);
}

function complain(trouble) {
  $("trouble").textContent = trouble;
  $("trouble").hidden = !trouble;
}

function setReadings(found, trouble = "") {
  complain(trouble);
  readings = found;
  chosen = 0;
  renderReadings();
}

function renderReadings() {
  const { strokes, picture } = now();
  const several = readings.length > 1;
  const lines = inLines();
  const numbers = lines.map((line) => line.map((at) => (rejected(readings[at]) ? "?" : readings[at].digit)).join(digits ? "" : " "));
  const reading = readings[chosen];
  const nothing = !reading?.digit;
  document.body.classList.toggle("empty", nothing);
  document.body.classList.toggle("rejected", !nothing && !readings.some((one) => !rejected(one)));
  document.body.classList.toggle("page", lines.length > 1);
  $("number").textContent = nothing ? "–" : numbers.join("\n");
  $("number").style.setProperty("--digits", Math.max(...numbers.map((number) => number.length), 1));
  $("number").style.setProperty("--lines", lines.length || 1);
  $("words").textContent = words(several, numbers, reading, strokes.length || picture);
  $("seen").hidden = nothing;
  if (!nothing) $("seen").src = reading.image;
  paper.ariaLabel = `Drawing area, ${strokes.length || picture ? `read as ${numbers.join(", ") || "nothing"}` : "empty"}. Draw with mouse, finger or pen, or choose a picture.`;
  renderChoices(several ? lines : []);
  renderBars(reading);
  renderBoxes(several || picture);
}

// The indices of the readings in each line
function inLines() {
  const lines = new Map();
  readings.forEach(({ line }, at) => lines.set(line, [...(lines.get(line) ?? []), at]));
  return [...lines.values()];
}

function words(several, numbers, reading, drawn) {
  if (!drawn) return "Nothing drawn yet.";
  if (!$("trouble").hidden) return "Not read yet.";
  if (!reading?.digit) return digits ? "No digit found." : "Nothing found.";
  if (several) {
    const not = readings.filter(rejected).length;
    const where = numbers.length > 1 ? ` in ${numbers.length} lines` : `: ${numbers[0]}`;
    return `${readings.length} ${digits ? "digits" : "found"}${where}${not ? `, ${not} rejected` : ""}`;
  }
  if (rejected(reading)) return `${other()}. The closest is ${reading.digit}.`;
  const more = reading.message && `. ${reading.message.split(";")[0]}: choose “${$("many").labels[0].innerText}” to read them`;
  return `Read as ${reading.digit}, ${percent(reading.probability)} sure${more}`;
}

const other = () => (digits ? "Not a digit" : "None of the classes");

function renderChoices(lines) {
  $("each").hidden = !lines.length;
  $("each").replaceChildren(
    ...lines.map((line, number) => make("div", { role: "group", "aria-label": `Line ${number + 1}` }, ...line.map(choice))),
  );
}

function choice(index) {
  const reading = readings[index];
  const name = rejected(reading) ? `${other().toLowerCase()}, closest to ${reading.digit}` : `${reading.digit}, ${percent(reading.probability)}`;
  const attributes = { type: "button", "aria-pressed": index === chosen, "aria-label": `Number ${index + 1}: ${name}` };
  const button = make("button", attributes, make("img", { src: reading.image, alt: "" }), rejected(reading) ? "?" : reading.digit);
  button.classList.toggle("rejected", rejected(reading));
  button.addEventListener("click", () => {
    chosen = index;
    renderReadings();
    $("each").querySelectorAll("button")[index].focus();
  });
  return button;
}

function renderBars(reading) {
  const names = reading ? Object.keys(reading.probabilities) : [...$("bars").children].map((bar) => bar.dataset.name);
  if (names.join() !== [...$("bars").children].map((bar) => bar.dataset.name).join()) setBars(names);
  for (const bar of $("bars").children) {
    const p = reading?.digit ? reading.probabilities[bar.dataset.name] : 0;
    const meter = bar.querySelector("[role=meter]");
    bar.classList.toggle("best", Boolean(reading?.digit) && bar.dataset.name === reading.digit);
    meter.style.setProperty("--share", p);
    meter.ariaValueNow = p.toFixed(3);
    meter.ariaValueText = bar.querySelector(".value").textContent = reading?.digit ? percent(p) : "";
  }
}

function setBars(names) {
  $("bars").replaceChildren(
    ...names.map((name) => {
      const meter = make("div", { role: "meter", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": 1, "aria-valuenow": 0 });
      return make("li", { "data-name": name }, make("b", {}, name), meter, make("span", { class: "value" }));
    }),
  );
}

function renderClassNames(names) {
  const some = names.length > 12 ? `one of ${names.length} classes` : names.join(", ");
  document.title = "mnist-lit: draw";
  document.querySelector("h1").textContent = "Draw";
  document.querySelector("header p").textContent = `${some}; a small network recognizes it.`;
  $("one").nextSibling.textContent = "One";
  $("many").nextSibling.textContent = "All";
  document.body.classList.add("named");
}

function renderBoxes(visible) {
  const { picture } = now();
  if (picture && !picture.bitmap) visible = false;
  const [width, height] = picture?.bitmap ? [picture.bitmap.width, picture.bitmap.height] : [SENT, SENT];
  const longer = Math.max(width, height);
  const place = fitted({ width, height });
  $("boxes").replaceChildren(
    ...(visible ? readings : []).filter((reading) => reading.digit).map((reading) => {
      const [left, top, right, bottom] = reading.box.map((edge) => edge / longer);
      const box = make("div", { class: "box" }, make("b", {}, rejected(reading) ? "?" : reading.digit));
      box.classList.toggle("rejected", rejected(reading));
      box.classList.toggle("high", place.top + top < 0.08);
      const style = { left: place.left + left, top: place.top + top, width: right - left, height: bottom - top };
      for (const [side, share] of Object.entries(style)) box.style[side] = `${100 * share}%`;
      return box;
    }),
  );
}

// Controls and start

$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", clear);
for (const mode of ["one", "many"]) $(mode).addEventListener("change", read);
addEventListener("online", read);
addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z") undo();
  else if (["Escape", "Delete"].includes(event.key)) clear();
  else return;
  event.preventDefault();
});
new ResizeObserver(show).observe(paper);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);

async function begin() {
  setBars([..."0123456789"]);
  setReadings([]);
  try {
    const { model, labels, threshold } = await (await fetch("health")).json();
    $("model").textContent = `Model ${model}, rejects outliers above ${threshold.toPrecision(2)}`;
    setBars(labels);
    digits = labels.every((label) => /^[0-9]$/.test(label));
    if (!digits) renderClassNames(labels);
  } catch {
    complain(OUT_OF_REACH);
  }
}

begin();
