// Label an image with an exported network in Node.js: npm install --ignore-scripts onnxruntime-node
//
//   crisscross export camvid-light --to onnx --out exported
//   node onnx_in_node.mjs exported/model.onnx street.ppm labels.pgm
//
// Images are read as PPM and labels written as PGM, which need no package; the network sees the image at its own size,
// so one with `preprocess.scale` in its card wants images of that scale.
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createRequire } from "node:module";

// ONNX Runtime reads this when it is loaded; it would report its use otherwise.
process.env.ORT_DISABLE_TELEMETRY ??= "1";
// From the working folder, where npm installs it.
const ort = createRequire(join(process.cwd(), "package.json"))("onnxruntime-node");

function readPpm(path) {
  const bytes = readFileSync(path);
  const head = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(bytes.subarray(0, 64).toString("latin1"));
  if (!head) throw new Error(`${path}: not a binary PPM image of 8 bits`);
  return { width: +head[1], height: +head[2], rgb: bytes.subarray(head[0].length) };
}

// Normalized float32 [1, 3, H, W].
function prepare({ width, height, rgb }, { mean, std, order }) {
  const plane = width * height;
  const x = new Float32Array(3 * plane);
  for (let channel = 0; channel < 3; channel++) {
    const from = order === "bgr" ? 2 - channel : channel;
    for (let p = 0; p < plane; p++) x[channel * plane + p] = (rgb[3 * p + from] - mean[channel]) / std[channel];
  }
  return new ort.Tensor("float32", x, [1, 3, height, width]);
}

// Where `length` outputs lie among `small` coarse positions: the left one, the right one, and the weight of the right.
function places(length, small, alignCorners) {
  return Array.from({ length }, (_, n) => {
    const scale = alignCorners ? (small - 1) / Math.max(length - 1, 1) : small / length;
    const at = Math.min(Math.max(alignCorners ? n * scale : (n + 0.5) * scale - 0.5, 0), small - 1);
    const left = Math.floor(at);
    return [left, Math.min(left + 1, small - 1), at - left];
  });
}

// The class with the largest bilinear logit at every pixel.
function label({ data, dims: [, classes, h, w] }, width, height, alignCorners) {
  const labels = new Uint8Array(width * height);
  const columns = places(width, w, alignCorners);
  places(height, h, alignCorners).forEach(([top, bottom, down], y) =>
    columns.forEach(([left, right, across], x) => {
      let best = -Infinity;
      for (let k = 0; k < classes; k++) {
        const row = (r) => data[(k * h + r) * w + left] * (1 - across) + data[(k * h + r) * w + right] * across;
        const value = row(top) * (1 - down) + row(bottom) * down;
        if (value > best) [best, labels[y * width + x]] = [value, k];
      }
    }),
  );
  return labels;
}

const [model, source, target] = process.argv.slice(2);
const card = JSON.parse(readFileSync(join(dirname(model), "card.json"), "utf8"));
const image = readPpm(source);
const session = await ort.InferenceSession.create(model);
const { logits } = await session.run({ images: prepare(image, card.preprocess) });
const labels = label(logits, image.width, image.height, card.align_corners);
writeFileSync(target, Buffer.concat([Buffer.from(`P5 ${image.width} ${image.height} 255\n`), labels]));
card.classes.forEach((name, k) => {
  console.log(name.padStart(12), `${((100 * labels.filter((found) => found === k).length) / labels.length).toFixed(1)}%`);
});
