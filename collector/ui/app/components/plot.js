// uPlot, dressed: colours from the theme, 24-hour axis, threshold line, marks of what changed.
import uPlot from 'uplot';

import { hourMinute, hourMinuteSecond } from '../time.js';

const SYNC = uPlot.sync('page');
/** Below this many seconds the axis needs seconds. */
const FINE_AXIS = 8 * 60;

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/**
 * @param {HTMLElement} host
 * @param {{
 *   height: number, names: string[], slots: number[], format: (value: number) => string,
 *   onCursor: (index: number | undefined) => void, onZoom: (from: number, to: number) => void, onReset: () => void,
 * }} options
 */
export function plot(host, { height, names, slots, format, onCursor, onZoom, onReset }) {
  let threshold;
  let marks = [];
  const muted = color('muted');
  const grid = { stroke: color('line'), width: 1 };
  const font = `11px ${color('font')}`;
  const axis = { stroke: muted, font, grid, ticks: { show: false } };
  const timeLabels = (self, splits) => {
    const fine = self.scales.x.max - self.scales.x.min < FINE_AXIS;
    return splits.map((split) => (fine ? hourMinuteSecond(split * 1000) : hourMinute(split * 1000)));
  };
  const chart = new uPlot(
    {
      width: host.clientWidth,
      height,
      padding: [18, 8, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: SYNC.key }, points: { size: 6 }, drag: { x: true, y: false, setScale: false }, bind: { dblclick: () => onReset } },
      scales: { x: { time: true }, y: { range: (_, __, most) => [0, niceTop(Math.max(most ?? 0, threshold ? threshold.value * 1.15 : 0))] } },
      axes: [
        { ...axis, space: 70, size: 30, values: timeLabels },
        { ...axis, size: 52, values: (_, splits) => splits.map((split) => format(split).replace(/\.0+(?=\D|$)/, '')) },
      ],
      series: [
        {},
        ...names.map((label, index) => ({
          label,
          stroke: color(`series-${slots[index] % 6}`),
          width: 1.75,
          dash: slots[index] >= 6 ? [6, 4] : undefined,
          points: { show: false },
          spanGaps: false,
        })),
      ],
      hooks: {
        draw: [(self) => drawThreshold(self, threshold, { line: color('critical'), font }), (self) => drawMarks(self, marks, { line: muted, font })],
        setCursor: [(self) => onCursor(self.cursor.idx ?? undefined)],
        setSelect: [
          (self) => {
            const { left, width } = self.select;
            if (width < 4) return;
            const [from, to] = [self.posToVal(left, 'x'), self.posToVal(left + width, 'x')];
            self.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
            onZoom(from, to);
          },
        ],
      },
    },
    [[], ...names.map(() => [])],
    host,
  );
  const observer = new ResizeObserver(() => host.clientWidth > 0 && chart.setSize({ width: host.clientWidth, height }));
  observer.observe(host);
  return {
    show(columns, newThreshold, newMarks) {
      threshold = newThreshold;
      marks = newMarks;
      chart.setData([columns.times, ...columns.series.map(({ values }) => values)]);
    },
    destroy() {
      observer.disconnect();
      chart.destroy();
    },
  };
}

/** The next 1, 2, 2.5 or 5 times a power of ten: axis labels stay short. */
function niceTop(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map((factor) => factor * power).find((top) => top >= value * 1.04) ?? 12 * power;
}

function drawThreshold({ ctx, bbox, valToPos }, threshold, { line, font }) {
  if (!threshold) return;
  const y = Math.round(valToPos(threshold.value, 'y', true)) + 0.5;
  if (y < bbox.top || y > bbox.top + bbox.height) return;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.strokeStyle = line;
  ctx.fillStyle = line;
  ctx.lineWidth = ratio;
  ctx.setLineDash([6 * ratio, 4 * ratio]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.font = scaled(font, ratio);
  ctx.textAlign = 'left';
  ctx.textBaseline = 'bottom';
  ctx.fillText(threshold.label, bbox.left + 4 * ratio, y - 2 * ratio);
  ctx.restore();
}

/** A dotted line where something changed; its words where they run into no others, the gravest first. */
function drawMarks({ ctx, bbox, scales, valToPos }, marks, { line, font }) {
  const ratio = devicePixelRatio;
  const right = bbox.left + bbox.width;
  ctx.save();
  ctx.strokeStyle = line;
  ctx.fillStyle = line;
  ctx.lineWidth = ratio;
  ctx.font = scaled(font, ratio);
  ctx.textBaseline = 'bottom';
  ctx.textAlign = 'left';
  ctx.setLineDash([2 * ratio, 3 * ratio]);
  const taken = [];
  for (const { at, label } of marks.toSorted((a, b) => WEIGHT[b.state] - WEIGHT[a.state] || b.at - a.at)) {
    const time = at / 1000;
    if (time < scales.x.min || time > scales.x.max) continue;
    const x = Math.round(valToPos(time, 'x', true)) + 0.5;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    const width = ctx.measureText(label).width;
    const places = [x - 2 * ratio, x - width + 2 * ratio].filter((left) => left >= bbox.left && left + width <= right);
    const left = places.find((from) => taken.every(([start, end]) => from > end || from + width < start));
    if (left === undefined) continue;
    ctx.fillText(label, left, bbox.top - 3 * ratio);
    taken.push([left - 6 * ratio, left + width + 6 * ratio]);
  }
  ctx.restore();
}

const WEIGHT = { critical: 3, warning: 2, info: 1, ok: 0 };

const scaled = (font, ratio) => font.replace(/^(\d+)px/, (_, size) => `${size * ratio}px`);
