"use strict";

// The map: points are summed into a grid of colours, one cell a pixel, which is drawn as one image. What is
// drawn around goes to the service as a polygon of the map's own coordinates, in the page's address.

const canvas = document.getElementById("map");
const MOST_CORNERS = 60;

const rgb = (name) => {
  const swatch = document.querySelector(`.swatches .${name}`);
  const probe = new OffscreenCanvas(1, 1).getContext("2d");
  probe.fillStyle = getComputedStyle(swatch, "::before").backgroundColor;
  probe.fillRect(0, 0, 1, 1);
  return [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3);
};

const palette = () => {
  if (canvas.dataset.score !== "true") {
    return [...document.querySelectorAll(".swatches span")].map((one) => rgb(one.classList[0]));
  }
  const [low, high, none] = ["c-low", "c-high", "c-none"].map(rgb);
  const steps = Array.from({ length: 256 }, (_, i) => low.map((part, c) => part + ((high[c] - part) * i) / 255));
  return [...steps, none];
};

const draw = (places, colours) => {
  const { width, height } = canvas;
  const [left, right, bottom, top] = canvas.dataset.bounds.split(" ").map(Number);
  const table = palette();
  const isScore = canvas.dataset.score === "true";
  const radius = colours.length > 50000 ? 0 : colours.length > 5000 ? 1 : 3;
  const grid = new Float32Array(4 * width * height);
  for (let i = 0; i < colours.length; i++) {
    const x = Math.floor(((places[2 * i] - left) / (right - left)) * width);
    const y = Math.floor(((top - places[2 * i + 1]) / (top - bottom)) * height);
    const colour = table[isScore ? (colours[i] === 65535 ? 256 : colours[i] >> 8) : colours[i]];
    for (let v = Math.max(y - radius, 0); v <= Math.min(y + radius, height - 1); v++) {
      for (let u = Math.max(x - radius, 0); u <= Math.min(x + radius, width - 1); u++) {
        if ((u - x) ** 2 + (v - y) ** 2 > radius * radius) continue;
        const at = 4 * (v * width + u);
        grid[at] += colour[0];
        grid[at + 1] += colour[1];
        grid[at + 2] += colour[2];
        grid[at + 3]++;
      }
    }
  }
  const image = new ImageData(width, height);
  for (let at = 0; at < grid.length; at += 4) {
    const count = grid[at + 3];
    if (count === 0) continue;
    for (let c = 0; c < 3; c++) image.data[at + c] = grid[at + c] / count;
    image.data[at + 3] = 255 * (1 - 0.45 / count);
  }
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  context.putImageData(image, 0, 0);
  const selected = canvas.dataset.polygon.trim();
  if (selected) {
    const corners = selected.split(/\s+/).map((corner) => corner.split(",").map(Number));
    outline(corners.map(([x, y]) => [((x - left) / (right - left)) * width, ((top - y) / (top - bottom)) * height]));
  }
};

const outline = (pixels) => {
  const context = canvas.getContext("2d");
  context.beginPath();
  for (const [x, y] of pixels) context.lineTo(x, y);
  context.closePath();
  context.lineWidth = 2;
  context.strokeStyle = getComputedStyle(canvas).color;
  context.stroke();
};

const select = (pixels) => {
  const [left, right, bottom, top] = canvas.dataset.bounds.split(" ").map(Number);
  const step = Math.max(1, Math.ceil(pixels.length / MOST_CORNERS));
  const corners = pixels
    .filter((_, place) => place % step === 0)
    .map(([x, y]) => [left + (x / canvas.width) * (right - left), top - (y / canvas.height) * (top - bottom)])
    .map(([x, y]) => `${x.toPrecision(5)},${y.toPrecision(5)}`);
  if (corners.length < 3) return;
  const query = new URLSearchParams({ colour: canvas.dataset.colour, polygon: corners.join(" ") });
  location.assign(`${location.pathname}?${query}#selected`);
};

const listen = (redraw) => {
  let drawn = null;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) / box.width) * canvas.width,
      ((event.clientY - box.top) / box.height) * canvas.height,
    ];
  };
  const shape = () => {
    if (!document.getElementById("box").checked) return drawn;
    const [[x1, y1], [x2, y2]] = [drawn[0], drawn.at(-1)];
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]];
  };
  document.querySelector(".map-shape").hidden = false;
  canvas.addEventListener("pointerdown", (event) => {
    drawn = [at(event)];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drawn === null) return;
    drawn.push(at(event));
    redraw();
    outline(shape());
  });
  canvas.addEventListener("pointerup", () => {
    if (drawn === null) return;
    const [xs, ys] = [0, 1].map((axis) => drawn.map((point) => point[axis]));
    const large = Math.max(...xs) - Math.min(...xs) > 5 && Math.max(...ys) - Math.min(...ys) > 5;
    if (large) select(shape());
    drawn = null;
    redraw();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (drawn !== null) {
      drawn = null;
      redraw();
    } else if (!event.target.matches("input, select")) document.getElementById("clear")?.click();
  });
};

const start = async () => {
  const answer = await fetch(canvas.dataset.points);
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const body = await answer.arrayBuffer();
  const count = body.byteLength / 10;
  const places = new Float32Array(body, 0, 2 * count);
  const colours = new Uint16Array(body, 8 * count, count);
  const redraw = () => draw(places, colours);
  redraw();
  listen(redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  canvas.dataset.drawn = String(count);
};

if (canvas !== null) {
  start().catch((error) => {
    canvas.replaceWith(`The map cannot be shown: ${error.message}. Open the page again.`);
  });
}
