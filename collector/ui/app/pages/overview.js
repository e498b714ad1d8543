// Is anything broken, where, since when, and what changed?
import { useEffect, useMemo } from 'preact/hooks';

import * as api from '../api.js';
import { Alert } from '../components/alert.js';
import { Chart } from '../components/chart.js';
import { CloudWatch, Scaling } from '../components/operations.js';
import { Empty, Failure, Panel, Skeleton } from '../components/panel.js';
import { Services } from '../components/services.js';
import { Glyph, level } from '../components/severity.js';
import { plural } from '../format.js';
import { html } from '../html.js';
import { poll } from '../poll.js';
import { route } from '../router.js';
import { firing, now } from '../state.js';
import { hourMinute, hourMinuteSecond, relative, span } from '../time.js';

const INTERVAL_MS = 5_000;

export default function Overview() {
  const feed = useMemo(() => poll(() => api.page('overview'), INTERVAL_MS), []);
  useEffect(() => feed.stop, []);
  const data = feed.data.value;
  useEffect(() => {
    if (data) firing.value = data.alerts.length;
  }, [data]);

  if (!data) {
    const error = feed.error.value;
    return html`<h1 class="away">Overview</h1>${error ? html`<${Failure} error=${error} retry=${feed.refresh} />` : html`<${Skeleton} height=${64} />`}`;
  }
  const stale = feed.stale.value;
  return html`
    <${Verdict} data=${data} updatedAt=${feed.updatedAt.value} stale=${stale} />
    <${Missing} missing=${data.missing ?? []} />
    <div class=${stale ? 'grid overview stale' : 'grid overview'}>
      <${Services} services=${data.services} objective=${data.objective} window=${data.window} />
      <div class="side">
        <${Firing} data=${data} />
        <${Scaling} scaling=${data.scaling} />
        <${Changes} changes=${data.changes} />
      </div>
      <${Charts} data=${data} />
      <${CloudWatch} cloudwatch=${data.cloudwatch} />
    </div>`;
}

function Verdict({ data, updatedAt, stale }) {
  const { verdict, targets, scaling, cloudwatch } = data;
  const next = scaling?.next;
  const dashboards = cloudwatch?.dashboards ?? [];
  const inSync = dashboards.filter(({ state }) => state === 'in_sync').length;
  const facts = [
    data.alerts.length === 0 ? 'no alert firing' : `${plural(data.alerts.length, 'alert')} firing`,
    data.pending > 0 ? `${data.pending} pending` : null,
    targets.total === 0 ? 'no targets' : `${targets.up}/${targets.total} targets up`,
    next ? `next scaling ${hourMinute(next.at)}: ${next.service} to ${next.min}–${next.max}` : null,
    dashboards.length > 0 ? `${inSync}/${dashboards.length} CloudWatch dashboards in sync` : null,
  ];
  return html`<section class=${`verdict ${verdict.state}`} aria-label="Verdict">
    <h1><span role="status"><${Glyph} state=${verdict.state} /> ${verdict.sentence}</span></h1>
    <p>${facts.filter(Boolean).join(' · ')} · <span class=${stale ? 'state warning' : 'muted'}>${stale ? '◆ ' : ''}updated ${span(now.value - updatedAt)} ago</span></p>
  </section>`;
}

// What could not be asked: the rest of the page holds all the same.
function Missing({ missing }) {
  if (missing.length === 0) return null;
  return html`<section class="panel missing" role="alert">
    <p><span class="state warning">◆ Not known at the moment:</span></p>
    <ul>${missing.map(({ what, error }) => html`<li key=${what}>${what}: ${error}</li>`)}</ul>
  </section>`;
}

function Firing({ data }) {
  const { alerts, last_resolved: last } = data;
  return html`<${Panel} title="Firing now" className="firing" aside=${html`<span class="muted">${alerts.length}</span>`}>
    ${alerts.length === 0
      ? html`<${Empty}>Nothing is firing.${last ? html` Last: ${last.text}, ${relative(last.at, now.value)}.` : null}<//>`
      : alerts.map((alert) => html`<${Alert} key=${alert.id} alert=${alert} />`)}
  <//>`;
}

function Charts({ data }) {
  const { params } = route.value;
  const from = Number(params.get('from'));
  const to = Number(params.get('to'));
  const zoomed = from > 0 && to > from;
  const window = zoomed ? { start: from, end: to, step: Math.max(1, Math.ceil((to - from) / 240)) } : data.window;
  const keys = data.services.map(({ environment, service }) => `${environment}/${service}`).toSorted();
  const manyEnvironments = new Set(data.services.map(({ environment }) => environment)).size > 1;
  const colorOf = ({ environment, service }) => Math.max(0, keys.indexOf(`${environment ?? ''}/${service}`));
  const nameOf = ({ environment, service }) => (manyEnvironments ? `${environment}/${service}` : service);
  const marks = useMemo(() => data.changes.filter(({ mark }) => mark).map(({ at, state, mark }) => ({ at, state, label: mark })), [data.changes]);
  return html`<div class="row">
    ${data.charts.map((chart) => html`<${Chart} key=${chart.title} ...${{ ...chart, window, marks, colorOf, nameOf }} />`)}
  </div>`;
}

function Changes({ changes }) {
  return html`<${Panel} title="Changed in the last hour">
    ${changes.length === 0
      ? html`<${Empty}>Nothing changed.<//>`
      : html`<ul class="changes">${changes.map(({ at, state, text }) => html`<li key=${`${at}${text}`}>
          <time title=${relative(at, now.value)}>${hourMinuteSecond(at)}</time>
          <span class=${`state ${level(state)}`}><${Glyph} state=${level(state)} /></span>
          <span>${text}</span>
        </li>`)}</ul>`}
  <//>`;
}
