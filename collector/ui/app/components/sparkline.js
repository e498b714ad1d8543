// The shape of an hour in the height of a row. Decoration beside the number that it belongs to.
import { html } from '../html.js';
import { greatest, polylines } from '../series.js';

const WIDTH = 96;
const HEIGHT = 20;

/** `limit` keeps a quiet line flat: the scale never ends below it. */
export function Sparkline({ values, limit, alarming }) {
  const known = values.filter((value) => value !== null).length;
  if (known < 2) return html`<span class="muted" aria-hidden="true">–</span>`;
  const pieces = polylines(values, WIDTH, HEIGHT, Math.max(limit ?? 0, greatest(values) ?? 0));
  const points = (piece) => piece.map(([x, y]) => `${x.toFixed(1)},${(y + 1).toFixed(1)}`).join(' ');
  return html`<svg class=${alarming ? 'sparkline alarming' : 'sparkline'} width=${WIDTH} height=${HEIGHT + 2} viewBox=${`0 0 ${WIDTH} ${HEIGHT + 2}`} aria-hidden="true">
    ${pieces.map((piece) => html`<polyline points=${points(piece)} />`)}
  </svg>`;
}
