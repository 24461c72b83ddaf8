// How the network's four convolutions respond to a digit, while the switch is on.
import { $, make } from "./dom.js";

const session = (() => {
  try {
    return sessionStorage;
  } catch {
    return {}; // a browser that refuses to store anything
  }
})();

let asking = null; // AbortController of the request in progress

export const isLive = () => $("live").checked;

// Show the switch. changed: called when it is turned on or off.
export function offerLayers(changed) {
  $("inside").hidden = false;
  $("live").checked = session.layers === "shown";
  $("live").addEventListener("change", () => {
    session.layers = isLive() ? "shown" : "hidden";
    changed();
  });
  changed();
}

// url: the 28×28 image that the network saw; none if nothing was read.
export async function showLayers(url) {
  asking?.abort();
  if (!isLive() || !url) return render([], isLive() ? "The maps of the next digit appear here." : "");
  const { signal } = (asking = new AbortController());
  const body = JSON.stringify({ pixels: await pixels(url) });
  const headers = { "content-type": "application/json" };
  const answer = await fetch("activations", { method: "POST", headers, body, signal }).catch(() => null);
  const result = await answer?.json().catch(() => null);
  if (signal.aborted) return;
  if (answer?.ok && result) render(result.layers, "The 8 maps of each layer that respond most. The stronger the color, the stronger the response.");
  else render([], "The server did not answer; draw again.");
}

async function pixels(url) {
  const image = make("img", { src: url });
  await image.decode();
  const side = image.naturalWidth;
  const context = make("canvas", { width: side, height: side }).getContext("2d");
  context.drawImage(image, 0, 0);
  const grays = [...context.getImageData(0, 0, side, side).data].filter((_, at) => at % 4 === 0);
  return Array.from({ length: side }, (_, row) => grays.slice(row * side, (row + 1) * side));
}

// Images stay where they are and change their content, so that nothing flickers between two answers.
function render(layers, note) {
  $("inside-note").textContent = note;
  $("inside-note").hidden = !note;
  $("layers").hidden = !layers.length;
  if (layers.length !== $("layers").children.length && layers.length) $("layers").replaceChildren(...layers.map(figure));
  layers.forEach(({ maps }, at) => $("layers").children[at].querySelectorAll("img").forEach((image, map) => (image.src = maps[map])));
}

function figure({ name, shape, maps }) {
  const [channels, height, width] = shape;
  const images = make("div", { class: "maps", role: "img", "aria-label": `${maps.length} of ${channels} maps of ${name}` });
  images.append(...maps.map(() => make("span", {}, make("img", { alt: "" }))));
  return make("figure", {}, make("figcaption", {}, make("b", {}, name), ` ${channels} maps of ${height}×${width}`), images);
}
