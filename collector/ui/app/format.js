// Numbers as people read them. What is not known is a dash, never a zero.

export const UNKNOWN = '–';

const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);

/** Three significant digits, and k, M, G from a thousand on: 38.2, 412, 1.8k. */
export function count(value) {
  if (!isNumber(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size >= 999.5) {
    for (const [unit, power] of [['k', 1e3], ['M', 1e6], ['G', 1e9]]) {
      if (size < power * 999.5) return `${(value / power).toFixed(size < power * 9.95 ? 1 : 0)}${unit}`;
    }
    return value.toExponential(1);
  }
  if (size >= 99.95 || value === 0) return value.toFixed(0);
  if (size >= 9.995) return value.toFixed(1);
  return size < 0.005 ? '<0.01' : value.toFixed(2).replace(/\.?0+$/, '');
}

/** A ratio as per cent: 0.40%, 9.8%, 100%. */
export function percent(ratio) {
  if (!isNumber(ratio)) return UNKNOWN;
  const value = ratio * 100;
  const size = Math.abs(value);
  if (value === 0) return '0%';
  if (size < 0.005) return '<0.01%';
  return `${value.toFixed(size < 0.995 ? 2 : size < 99.5 ? 1 : 0)}%`;
}

/** Seconds in the unit that fits: 84 ms, 2.31 s, 3.2 min. */
export function seconds(value) {
  if (!isNumber(value)) return UNKNOWN;
  if (value === 0) return '0 ms';
  if (value < 0.0009995) return `${(value * 1e6).toFixed(0)} µs`;
  if (value < 0.0995) return `${(value * 1e3).toFixed(value < 0.00995 ? 1 : 0)} ms`;
  if (value < 0.9995) return `${(value * 1e3).toFixed(0)} ms`;
  if (value < 99.5) return `${value.toFixed(value < 9.995 ? 2 : 1)} s`;
  return `${(value / 60).toFixed(1)} min`;
}

/** How a chart or a cell of that unit writes a value. */
export const byUnit = { count, percent, seconds };

/** `1 target`, `14 targets`. */
export const plural = (amount, noun) => `${amount} ${noun}${amount === 1 ? '' : 's'}`;
