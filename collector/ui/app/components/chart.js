// One panel with lines over time: asks the range query itself, draws with uPlot, and tells the same in a table.
//
// Drag zooms (the window stands in the address), a double click or Escape goes back. Cursors of all charts of a page
// move together.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';

import { queryRange } from '../api.js';
import { byUnit, UNKNOWN } from '../format.js';
import { html } from '../html.js';
import { setParams } from '../router.js';
import { greatest, last, toColumns } from '../series.js';
import { theme } from '../state.js';
import { hourMinute, hourMinuteSecond } from '../time.js';
import { Empty, Failure, Panel, Skeleton } from './panel.js';
import { plot } from './plot.js';

const HEIGHT = 220;
const TABLE_ROWS = 12;

/**
 * @param {{
 *   title: string, expr: string, unit: 'count' | 'percent' | 'seconds',
 *   window: {start: number, end: number, step: number},
 *   threshold?: {value: number, label: string}, marks: {at: number, label: string}[],
 *   colorOf: (labels: Record<string, string>) => number, nameOf: (labels: Record<string, string>) => string,
 * }} props
 */
export function Chart({ title, expr, unit, window, threshold, marks, colorOf, nameOf }) {
  const [answer, setAnswer] = useState({});
  const [attempt, setAttempt] = useState(0);
  const [asTable, setAsTable] = useState(false);
  const { start, end, step } = window;
  useEffect(() => {
    let current = true;
    queryRange(expr, window).then(
      (matrix) => current && setAnswer({ columns: sorted(toColumns(matrix, start, end, step), nameOf) }),
      (error) => current && setAnswer((before) => ({ columns: before.columns, error })),
    );
    return () => {
      current = false;
    };
  }, [expr, start, end, step, attempt]);

  const { columns, error } = answer;
  const format = byUnit[unit];
  const toggle = html`<button type="button" class="button small" aria-pressed=${asTable} onClick=${() => setAsTable(!asTable)}>Table</button>`;
  let body;
  if (error && !columns) body = html`<${Failure} error=${error} query=${expr} retry=${() => setAttempt(attempt + 1)} />`;
  else if (!columns) body = html`<${Skeleton} height=${HEIGHT + 60} />`;
  else if (columns.series.length === 0) body = html`<${Empty}>No samples in this window. Lines appear once the first requests are scraped.<//>`;
  else if (asTable) body = html`<${Table} ...${{ title, columns, format, nameOf }} />`;
  else body = html`<${Lines} ...${{ title, columns, format, threshold, marks, colorOf, nameOf }} />`;
  return html`<${Panel} title=${title} aside=${toggle} className="chart">
    ${error && columns ? html`<p class="note"><span aria-hidden="true">◆</span> Not refreshed: ${error.message}</p>` : null}
    ${body}
  <//>`;
}

function sorted({ times, series }, nameOf) {
  return { times, series: series.toSorted((a, b) => nameOf(a.labels).localeCompare(nameOf(b.labels))) };
}

/** The canvas and its legend; the legend is a table of what the canvas shows. */
function Lines({ title, columns, format, threshold, marks, colorOf, nameOf }) {
  const host = useRef(/** @type {HTMLDivElement | null} */ (null));
  const drawn = useRef(/** @type {ReturnType<typeof plot> | null} */ (null));
  const [cursor, setCursor] = useState(/** @type {number | undefined} */ (undefined));
  const names = columns.series.map(({ labels }) => nameOf(labels));
  const slots = columns.series.map(({ labels }) => colorOf(labels));
  const look = `${theme.value} ${names.join()} ${slots.join()}`;

  useEffect(() => {
    drawn.current = plot(host.current, {
      height: HEIGHT,
      names,
      slots,
      format,
      onCursor: setCursor,
      onZoom: (from, to) => setParams({ from: Math.round(from), to: Math.round(to) }),
      onReset: () => setParams({ from: '', to: '' }),
    });
    drawn.current.show(columns, threshold, marks);
    return () => drawn.current.destroy();
  }, [look]);
  useEffect(() => drawn.current?.show(columns, threshold, marks), [columns, threshold?.value, marks]);

  const summary = useMemo(() => describe(title, columns, format, nameOf), [columns]);
  const head = cursor === undefined ? 'now' : hourMinuteSecond(columns.times[cursor] * 1000);
  return html`
    <div ref=${host} class="canvas" style=${{ height: `${HEIGHT}px` }} role="img" aria-label=${summary}></div>
    <table class="legend">
      <thead><tr><th scope="col"><span class="away">Series</span></th><th scope="col" class="num">${head}</th><th scope="col" class="num">max</th></tr></thead>
      <tbody>${columns.series.map(({ values }, index) => {
        const value = cursor === undefined ? last(values) : values[cursor];
        return html`<tr key=${names[index]}>
          <th scope="row"><${Swatch} slot=${slots[index]} /> ${names[index]}</th>
          <td class="num">${format(value ?? undefined)}</td>
          <td class="num">${format(greatest(values))}</td>
        </tr>`;
      })}</tbody>
    </table>`;
}

const Swatch = ({ slot }) => html`<svg class=${`swatch series-${slot % 6}`} width="16" height="8" aria-hidden="true">
  <line x1="0" x2="16" y1="4" y2="4" stroke-dasharray=${slot >= 6 ? '4 3' : undefined} />
</svg>`;

function describe(title, { series }, format, nameOf) {
  const parts = series.map(({ labels, values }) => `${nameOf(labels)} ${format(last(values))}, at most ${format(greatest(values))}`);
  return `${title}: ${parts.join('; ')}`;
}

/** The same numbers for those who do not see the canvas: evenly spaced rows of the window. */
function Table({ title, columns, format, nameOf }) {
  const { times, series } = columns;
  const stride = Math.max(1, Math.ceil(times.length / TABLE_ROWS));
  const rows = [];
  for (let index = times.length - 1; index >= 0; index -= stride) rows.unshift(index);
  return html`<div class="scroll" role="group" aria-label=${`${title} as a table`} tabindex="0">
    <table class="data">
      <thead><tr><th scope="col">Time</th>${series.map(({ labels }) => html`<th scope="col" class="num">${nameOf(labels)}</th>`)}</tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${times[row]}>
        <th scope="row">${hourMinute(times[row] * 1000)}</th>
        ${series.map(({ values }) => html`<td class="num">${values[row] === null ? UNKNOWN : format(values[row])}</td>`)}
      </tr>`)}</tbody>
    </table>
  </div>`;
}
