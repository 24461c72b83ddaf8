// Draw or drop a picture; the server reads it after every stroke. Coordinates are fractions of the pad's side, 0 … 1.
import { $, make } from "./dom.js";
import { EXAMPLES } from "./examples.js";
import { isLive, offerLayers, showLayers } from "./layers.js";

const PEN = 0.055; // stroke width
const SENT = 336; // side of the drawing sent to the server, in pixels
const PATIENCE = 300; // milliseconds before a note that the page is waiting replaces the last reading
const PAUSE = 150; // milliseconds between two readings of a stroke in progress
const TIMEOUT = 30_000; // milliseconds before a server that does not answer counts as unreachable
const SLOW = 10_000; // milliseconds after which a picture that got no answer was too large for the connection
const RETRY = 3000; // milliseconds before an unreachable or busy server is tried again
const UNSEEN = /\.(hei[cf]|hif|tiff?|jp[2cfx]|j2[ck]|p[bgnp]m|tga|pcx)$/i; // read by the server, shown by few browsers
const SMALL = 0.045; // height of digits that are smaller than their labels, as a fraction of the pad's side
const SHOWN = 1600; // longest side of a picture on the pad, in its pixels; the server looks for digits at the same
const LARGE = 1 << 20; // bytes of a photo that is sent as it is shown
const OPAQUE = /^image\/(jpeg|hei[cf])$/; // others can be transparent, which a JPEG cannot
const OUT_OF_REACH = "The server cannot be reached. Your drawing is kept and will be read once it is back.";
const BUSY = "The server is busy. Your drawing is kept and will be read as soon as possible.";
const TOO_SLOW = "Sending this picture takes too long. Choose a smaller one, or choose it again on a faster connection.";
const NO_FILE = "This is not a file. Choose, drop or paste a picture.";
const NOT_READY = "The server cannot be reached yet. This page keeps trying.";

const NOTHING = $("words").textContent;
const paper = $("paper");
const invitation = [...$("hint").childNodes];
const EMPTY = { strokes: [], picture: null };

let states = [EMPTY]; // the undo history: never empty, and its states are never modified
let stroke = null; // [x, y] of each point, while a pointer is down
let readings = []; // from the latest answer
let chosen = 0; // index of the one that the bars show
let asking = null; // AbortController of the request in progress
let begun = 0; // when that request began, in milliseconds
let retry = 0;
let inputs = 0; // number of strokes, pictures and examples so far
let unread = false; // whether the latest request has failed
let digits = true; // false if the model has other classes than the digits

const now = () => (stroke && states.at(-1).picture ? EMPTY : states.at(-1)); // a stroke replaces a picture
const rejected = (reading) => reading.status !== "ok";
const percent = (p) => (p > 0.9995 ? "> 99.9 %" : p < 0.0005 ? "0 %" : `${(100 * p).toFixed(1)} %`);

// Drawing

function draw(context, side, ink) {
  const { strokes, picture } = now();
  if (picture?.bitmap) {
    const { left, top, width, height } = fitted(picture);
    context.fillStyle = "#808080"; // both black and white ink on a transparent picture can be seen on it
    context.fillRect(left * side, top * side, width * side, height * side);
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
  $("hint").replaceChildren(...(hidden ? [`This browser cannot show ${picture.file.name}.`] : invitation));
  const focused = document.activeElement;
  $("clear").disabled = !(stroke || strokes.length || picture);
  $("undo").disabled = states.length < 2;
  if (focused?.disabled) $($("undo").disabled ? "file" : "undo").focus(); // or the keyboard's place on the page is lost
}

function add(state) {
  states.push(state);
  show();
  read();
}

// Show another drawing or picture, for which the last reading does not hold.
function replace(state) {
  inputs++;
  forget();
  add(state);
}

function undo() {
  if (stroke) stroke = null; // the one in progress
  else if (states.length > 1) states.pop();
  else return;
  forget();
  show();
  read();
}

function clear() {
  if (stroke) undo();
  if (now() !== EMPTY) replace(EMPTY);
  else complain("");
}

function point(event) {
  const { left, top, width } = paper.getBoundingClientRect();
  return [(event.clientX - left) / width, (event.clientY - top) / width];
}

paper.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button !== 0) return;
  paper.setPointerCapture(event.pointerId);
  stop(); // the drawing is about to change
  if (now().picture) forget();
  inputs++;
  stroke = [point(event)];
  show();
});

paper.addEventListener("pointermove", (event) => {
  if (!stroke || !event.isPrimary) return;
  const events = event.getCoalescedEvents?.() ?? [];
  stroke.push(...(events.length ? events : [event]).map(point));
  show();
  if (isLive() && !asking && performance.now() - begun > PAUSE) read();
});

function lift() {
  if (!stroke) return;
  const strokes = [...now().strokes, stroke];
  stroke = null;
  add({ strokes, picture: null });
}

for (const end of ["pointerup", "pointercancel"]) paper.addEventListener(end, (event) => event.isPrimary && lift());
matchMedia("(orientation: portrait)").addEventListener("change", lift); // the pad moves and changes its size

// Examples and pictures

function exampleButton({ name, strokes }) {
  const button = make("button", { type: "button", title: name, "aria-label": `Try ${name}` });
  button.innerHTML = `<svg viewBox="0 0 100 100" aria-hidden="true">${strokes.map(() => "<polyline/>").join("")}</svg>`;
  button.querySelectorAll("polyline").forEach((line, at) => {
    line.setAttribute("points", strokes[at].map(([x, y]) => `${100 * x},${100 * y}`).join(" "));
  });
  button.addEventListener("click", () => replace({ strokes, picture: null }));
  return button;
}

async function take(files) {
  const turn = ++inputs;
  const [original, count] = [files[0], files.length];
  const bytes = await original.arrayBuffer().catch(() => "");
  const { name, type } = original;
  const file = new File([bytes], name, { type }); // a copy, as the original may change or go before it is read again
  const shown = await preview(file);
  if (turn !== inputs) return; // there was another one meanwhile
  if (shown || (bytes && UNSEEN.test(name))) replace({ strokes: [], picture: { file, count, ...shown } });
  else complain(`${name || "This file"} is not a picture that can be read. Choose JPEG, PNG, WebP, GIF, TIFF or HEIC.`);
}

// The undo history keeps every bitmap, and that of a large photo takes 250 MB. So it is made smaller. Width and height are
// those of the file that is sent, to which the server's boxes refer.
async function preview(file) {
  const full = await createImageBitmap(file).catch(() => null);
  if (!full) return null;
  const { width, height } = full;
  const scale = Math.min(1, SHOWN / Math.max(width, height));
  const [resizeWidth, resizeHeight] = [width, height].map((side) => Math.max(Math.round(scale * side), 1));
  const bitmap = await createImageBitmap(full, { resizeWidth, resizeHeight, resizeQuality: "medium" });
  full.close();
  const isSmaller = scale < 1 && file.size > LARGE && OPAQUE.test(file.type);
  if (!isSmaller) return { bitmap, width, height };
  return { bitmap, width: resizeWidth, height: resizeHeight, file: await encoded(bitmap, file.name) };
}

async function encoded(bitmap, name) {
  const canvas = make("canvas", { width: bitmap.width, height: bitmap.height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return new File([await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9))], name);
}

function offer({ files }) {
  if (files.length) take(files);
  else complain(NO_FILE);
}

$("file").addEventListener("change", (event) => {
  if (event.target.files.length) take(event.target.files);
  event.target.value = ""; // so that the same file can be chosen again
});
addEventListener("paste", (event) => offer(event.clipboardData));
addEventListener("dragover", (event) => {
  event.preventDefault();
  if (event.dataTransfer.types.includes("Files")) $("pad").classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("pad").classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  $("pad").classList.remove("dropping");
  offer(event.dataTransfer);
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

function stop() {
  asking?.abort();
  asking = null;
  clearTimeout(retry);
}

// again: nothing has changed, so what the page says remains until there is an answer.
async function read(again = false) {
  stop();
  if (!stroke && !now().strokes.length && !now().picture) return setReadings([]);
  begun = performance.now();
  const request = (asking = new AbortController());
  const { signal } = request;
  const waiting = again ? 0 : setTimeout(forget, PATIENCE, "Reading…");
  const late = setTimeout(() => request.abort(), TIMEOUT);
  const body = new FormData();
  body.append("file", await sent());
  const answer = await fetch(`predict?many=${$("many").checked}`, { method: "POST", body, signal }).catch(() => null);
  const result = await answer?.json().catch(() => null); // null if it is not JSON
  clearTimeout(waiting);
  clearTimeout(late);
  if (request !== asking) return;
  asking = null;
  const lost = !answer || signal.aborted;
  if (now().picture && (lost ? performance.now() - begun > SLOW : answer.status === 408)) return setReadings([], TOO_SLOW);
  const wait = lost ? OUT_OF_REACH : [502, 503, 504].includes(answer.status) ? BUSY : "";
  if (wait) retry = setTimeout(read, RETRY, true);
  if (!wait && answer.ok && result) setReadings(result.readings);
  else setReadings([], wait || `The server answered: ${result?.detail ?? `${answer.status} ${answer.statusText}`}`);
}

function complain(trouble) {
  say("trouble", trouble);
  $("trouble").hidden = !trouble;
}

// A screen reader speaks these texts whenever they are set, even to what they are.
function say(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function setReadings(found, trouble = "") {
  complain(trouble);
  unread = Boolean(trouble);
  readings = found;
  chosen = Math.max(found.findIndex(isUnderPen), 0);
  renderReadings();
}

// Show no reading until the next answer.
function forget(note = "") {
  setReadings([]);
  say("words", note);
}

function isUnderPen({ box: [left, top, right, bottom] }) {
  const [x, y] = (stroke ?? now().strokes.at(-1))?.at(-1).map((fraction) => fraction * SENT) ?? [];
  return left <= x && x <= right && top <= y && y <= bottom;
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
  const others = picture?.count > 1 ? `Only the first of ${picture.count} files was taken. ` : "";
  say("words", others + words(several, numbers, reading, strokes.length || picture));
  $("seen").hidden = nothing;
  if (!nothing) $("seen").src = reading.image;
  paper.ariaLabel = `Drawing area, ${strokes.length || picture ? `read as ${numbers.join(", ") || "nothing"}` : "empty"}. Draw with mouse, finger or pen, or choose a picture.`;
  renderChoices(several ? lines : [], numbers);
  renderBars(reading);
  renderBoxes(several || picture);
  showLayers(nothing ? "" : reading.image);
}

// The indices of the readings in each line
function inLines() {
  const lines = new Map();
  readings.forEach(({ line }, at) => lines.set(line, [...(lines.get(line) ?? []), at]));
  return [...lines.values()];
}

function words(several, numbers, reading, drawn) {
  if (!drawn) return NOTHING;
  if (unread) return "Not read yet.";
  if (!reading?.digit) return digits ? "No digit found." : "Nothing found.";
  if (several) {
    const not = readings.filter(rejected).length;
    const where = numbers.length > 1 ? ` in ${numbers.length} lines` : "";
    const which = numbers.length > 3 ? "" : `: ${numbers.join(", ")}`;
    return `${readings.length} ${digits ? "digits" : "found"}${where}${not ? `, ${not} rejected` : ""}${which}`;
  }
  const [found] = /\d+ \w+ found/.exec(reading.message) ?? [""];
  const more = found && `. ${found}: choose “${$("many").labels[0].innerText}” to read them`;
  if (rejected(reading)) return other() + (more || ".");
  return `Read as ${reading.digit}, ${percent(reading.probability)} sure${more}`;
}

const other = () => (digits ? "Not a digit" : "None of the classes");

function renderChoices(lines, numbers) {
  $("each").hidden = !lines.length;
  $("each").replaceChildren(
    ...lines.map((line, number) => make("div", { role: "group", "aria-label": `Line ${number + 1}: ${numbers[number]}` }, ...line.map(choice))),
  );
}

function choice(index) {
  const reading = readings[index];
  const name = rejected(reading) ? other().toLowerCase() : `${reading.digit}, ${percent(reading.probability)}`;
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

// A rejected reading has probabilities, too, but they say how alike the classes are, not how sure the network is.
function renderBars(reading) {
  const unsure = Boolean(reading?.digit) && rejected(reading);
  $("unsure").hidden = !unsure;
  $("bars").hidden = unsure;
  if (unsure) {
    const why = digits ? "does not look like a digit" : "looks like none of the classes";
    $("unsure").textContent = `This ${why}, so there are no probabilities. The closest is ${reading.digit}.`;
    return;
  }
  const names = reading ? Object.keys(reading.probabilities) : [...$("bars").children].map((bar) => bar.dataset.name);
  if (names.join() !== [...$("bars").children].map((bar) => bar.dataset.name).join()) setBars(names);
  for (const bar of $("bars").children) {
    const p = reading?.digit ? reading.probabilities[bar.dataset.name] : 0;
    const meter = bar.querySelector("[role=meter]");
    bar.classList.toggle("best", Boolean(reading?.digit) && bar.dataset.name === reading.digit);
    meter.style.setProperty("--fraction", p);
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
  $("hint").querySelector("strong").textContent = "Draw here";
  $("examples").hidden = true;
}

function renderModel(name, threshold) {
  const unlike = digits ? "that do not look like a digit" : "that look like none of the classes";
  const rejects = threshold < 1 ? `Pictures ${unlike} are rejected.` : "It is not calibrated, so no picture is rejected.";
  $("model").textContent = `Model ${name}. ${rejects}`;
  $("model").title = `Outlier scores above ${threshold.toPrecision(2)} are rejected`;
}

function renderBoxes(visible) {
  const { picture } = now();
  if (picture && !picture.bitmap) visible = false;
  const [width, height] = picture?.bitmap ? [picture.width, picture.height] : [SENT, SENT];
  const longer = Math.max(width, height);
  const place = fitted({ width, height });
  const boxed = (visible ? readings : []).filter((reading) => reading.digit);
  const heights = boxed.map(({ box: [, top, , bottom] }) => (bottom - top) / longer).sort((a, b) => a - b);
  $("boxes").classList.toggle("small", heights[heights.length >> 1] < SMALL);
  $("boxes").replaceChildren(
    ...boxed.map((reading) => {
      const [left, top, right, bottom] = reading.box.map((edge) => edge / longer);
      const box = make("div", { class: "box" }, make("b", {}, rejected(reading) ? "?" : reading.digit));
      box.classList.toggle("chosen", reading === readings[chosen]);
      box.classList.toggle("rejected", rejected(reading));
      box.classList.toggle("high", place.top + top < 0.08);
      const style = { left: place.left + left, top: place.top + top, width: right - left, height: bottom - top };
      for (const [side, fraction] of Object.entries(style)) box.style[side] = `${100 * fraction}%`;
      return box;
    }),
  );
}

// Controls and start

$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", clear);
for (const mode of ["one", "many"]) {
  $(mode).addEventListener("change", () => {
    forget();
    read();
  });
}
$("examples").append(...EXAMPLES.map(exampleButton));
if (/^(Mac|iP)/.test(navigator.platform)) for (const key of document.querySelectorAll("kbd")) key.textContent = key.textContent.replace("Ctrl+", "⌘");
addEventListener("online", () => read(true));
addEventListener("keydown", (event) => {
  const { key, code } = event;
  const z = key.toLowerCase() === "z" || (code === "KeyZ" && !/^[a-z]$/i.test(key)); // also on a Cyrillic keyboard
  if (z && (event.ctrlKey || event.metaKey) && !event.shiftKey) undo();
  else if (["Escape", "Delete", "Backspace"].includes(key)) clear(); // a Mac's key "delete" is Backspace
  else return;
  event.preventDefault();
});
new ResizeObserver(show).observe(paper);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);

async function begin() {
  const answer = await fetch("health", { signal: AbortSignal.timeout(TIMEOUT) }).catch(() => null);
  const health = answer?.ok && (await answer.json().catch(() => null));
  if (!health) {
    if (now() === EMPTY) complain(NOT_READY);
    return setTimeout(begin, RETRY);
  }
  const { model, labels, threshold, layers } = health;
  if ($("trouble").textContent === NOT_READY) complain("");
  digits = labels.every((label) => /^[0-9]$/.test(label));
  renderModel(model, threshold);
  setBars(labels);
  if (!digits) renderClassNames(labels);
  if (readings.length) renderReadings(); // of what was drawn meanwhile
  if (layers.length) offerLayers(renderReadings);
}

setBars([..."0123456789"]);
setReadings([]);
begin();
