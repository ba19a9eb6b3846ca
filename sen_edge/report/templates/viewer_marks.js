// Marks of neurons, and how they get into the frame; used by viewer_drawing.js, which holds the frame.
/** The mark of a neuron: a disc excites, a square inhibits, a diamond is an output, a ring is silent. */
function sprite(kind, isSpiking, size) {
  const key = (size * 4 + kind + 1) * 2 + isSpiking;
  if (sprites.has(key)) return sprites.get(key);
  const picture = document.createElement("canvas");
  picture.width = picture.height = size;
  const brush = picture.getContext("2d", { willReadFrequently: true });
  brush.translate(size / 2, size / 2);
  brush.scale(size / 64, size / 64);
  if (isSpiking) {
    brush.fillStyle = kind === 2 ? ink[0] : ink[kind];
    brush.globalAlpha = 0.28;
    brush.beginPath();
    brush.arc(0, 0, 31, 0, 7);
    brush.fill();
    brush.globalAlpha = 1;
  }
  const r = isSpiking ? 16 : 25;
  brush.beginPath();
  if (kind === 1 || kind === 0) brush.arc(0, 0, r, 0, 7);
  else if (kind === -1) brush.rect(-0.86 * r, -0.86 * r, 1.72 * r, 1.72 * r);
  else [[0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]].forEach(([x, y]) => brush.lineTo(x * r, y * r));
  brush.closePath();
  brush.fillStyle = kind === 0 ? ink.paper : kind === 2 ? ink.text : ink[kind];
  brush.strokeStyle = kind === 0 ? ink[0] : isSpiking ? ink.text : ink.paper;
  brush.lineWidth = kind === 0 || isSpiking ? 6 : 5;
  brush.fill();
  brush.stroke();
  const pixels = brush.getImageData(0, 0, size, size).data;
  sprites.set(key, pixels);
  return pixels;
}

/** Puts a mark of size x size pixels into the frame, over what is there. */
function stamp(mark, size, left, top, alpha) {
  const width = frame.width;
  const to = frame.data;
  const right = Math.min(size, width - left);
  const bottom = Math.min(size, frame.height - top);
  for (let y = Math.max(0, -top); y < bottom; y++) {
    const first = Math.max(0, -left);
    let from = 4 * (y * size + first);
    let at = 4 * ((top + y) * width + left + first);
    for (let x = first; x < right; x++, from += 4, at += 4) {
      const above = mark[from + 3] * alpha;
      if (above < 1) continue;
      const below = (to[at + 3] * (255 - above)) / 255;
      const both = above + below;
      for (let colour = 0; colour < 3; colour++) {
        to[at + colour] = (mark[from + colour] * above + to[at + colour] * below) / both;
      }
      to[at + 3] = both;
    }
  }
}
