// A range answer of the Prometheus API as columns on one grid of times, with gaps where a series has no sample.

/**
 * @param {{metric: Record<string, string>, values: [number, string][]}[]} matrix
 * @param {number} start seconds
 * @param {number} end seconds
 * @param {number} step seconds
 * @returns {{times: number[], series: {labels: Record<string, string>, values: (number | null)[]}[]}}
 */
export function toColumns(matrix, start, end, step) {
  const length = Math.max(0, Math.floor((end - start) / step + 1e-6)) + 1;
  const times = Array.from({ length }, (_, index) => start + index * step);
  const series = matrix.map(({ metric, values }) => {
    const column = new Array(length).fill(null);
    for (const [time, text] of values) {
      const index = Math.round((time - start) / step);
      const value = Number(text);
      if (index >= 0 && index < length && Number.isFinite(value)) column[index] = value;
    }
    return { labels: metric, values: column };
  });
  return { times, series };
}

/** Last known value, or undefined. */
export function last(values) {
  for (let index = values.length - 1; index >= 0; index -= 1) if (values[index] !== null) return values[index];
  return undefined;
}

/** Greatest known value, or undefined. */
export function greatest(values) {
  let found;
  for (const value of values) if (value !== null && (found === undefined || value > found)) found = value;
  return found;
}

/** Points of a polyline per unbroken piece, in a box of the given size; y from 0. */
export function polylines(values, width, height, top) {
  const limit = top > 0 ? top : 1;
  const step = values.length > 1 ? width / (values.length - 1) : 0;
  const pieces = [];
  let piece = [];
  values.forEach((value, index) => {
    if (value === null) {
      if (piece.length > 0) pieces.push(piece);
      piece = [];
      return;
    }
    piece.push([index * step, height - (Math.min(value, limit) / limit) * height]);
  });
  if (piece.length > 0) pieces.push(piece);
  return pieces;
}
