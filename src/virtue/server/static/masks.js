// Masks as COCO run lengths: down the columns, background first; compressed to a string as pycocotools does.

export function compress(counts) {
  let text = "";
  counts.forEach((count, index) => {
    let rest = index > 2 ? count - counts[index - 2] : count;
    for (let more = true; more;) {
      let bits = rest & 31;
      rest >>= 5;
      more = bits & 16 ? rest !== -1 : rest !== 0;
      if (more) bits |= 32;
      text += String.fromCharCode(bits + 48);
    }
  });
  return text;
}

export function decompress(text) {
  const counts = [];
  for (let at = 0; at < text.length;) {
    let value = 0;
    let shift = 0;
    for (let more = true; more; at += 1) {
      const bits = text.charCodeAt(at) - 48;
      value |= (bits & 31) << shift;
      more = Boolean(bits & 32);
      shift += 5;
      if (!more && bits & 16) value |= -1 << shift;
    }
    counts.push(counts.length > 2 ? value + counts[counts.length - 2] : value);
  }
  return counts;
}

// The run lengths of a picture, asked pixel by pixel: isSet(x, y).
export function encode(width, height, isSet) {
  const counts = [];
  let run = 0;
  let current = false;
  for (let x = 0; x < width; x += 1) {
    for (let y = 0; y < height; y += 1) {
      if (isSet(x, y) !== current) {
        counts.push(run);
        run = 0;
        current = !current;
      }
      run += 1;
    }
  }
  counts.push(run);
  return { size: [height, width], counts: compress(counts) };
}

// Whether a mask is one of a picture of this size: its runs fill it, and something is set.
export function isMaskOf({ width, height }, { size, counts }) {
  const runs = decompress(counts);
  const pixels = runs.reduce((sum, run) => sum + run, 0);
  return size[0] === height && size[1] === width && pixels === width * height && runs.every((run) => run >= 0)
    && runs.some((run, index) => index % 2 && run) && compress(runs) === counts;
}

// A mask scaled to (wide, high): 1 where it is set, row by row. Large masks are sampled, never written out whole.
export function sampled({ size: [height, width], counts }, wide, high) {
  const runs = typeof counts === "string" ? decompress(counts) : counts;
  const out = new Uint8Array(wide * high);
  let run = 0;
  let end = runs[0] ?? 0;
  for (let x = 0; x < wide; x += 1) {
    const column = Math.min(width - 1, Math.floor(((x + 0.5) * width) / wide)) * height;
    for (let y = 0; y < high; y += 1) {
      const at = column + Math.min(height - 1, Math.floor(((y + 0.5) * height) / high));
      while (at >= end && run < runs.length - 1) {
        run += 1;
        end += runs[run];
      }
      out[y * wide + x] = run % 2;
    }
  }
  return out;
}
