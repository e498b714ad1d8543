// The table of services, worst first, with a filter that stands in the address.
import { count, percent, seconds, UNKNOWN } from '../format.js';
import { html } from '../html.js';
import { route, setParams } from '../router.js';
import { span } from '../time.js';
import { Empty, Panel } from './panel.js';
import { State } from './severity.js';
import { Sparkline } from './sparkline.js';

export function Services({ services, objective, window }) {
  // `service` is how alerts link here.
  const filter = route.value.params.get('q') ?? route.value.params.get('service') ?? '';
  const shown = services.filter(({ service, environment }) => `${environment}/${service}`.includes(filter.trim().toLowerCase()));
  const manyEnvironments = new Set(services.map(({ environment }) => environment)).size > 1;
  const search = html`<input type="search" aria-label="Filter services" placeholder="Filter ( / )" value=${filter}
    onInput=${(event) => setParams({ q: event.target.value, service: '' }, { replace: true })} />`;
  return html`<${Panel} title="Services" className="services" aside=${services.length > 0 ? search : null}>
    ${services.length === 0 ? html`<${NoServices} />` : shown.length === 0 ? html`<${Empty}>No service matches “${filter}”.<//>` : html`<table class="data">
      <thead><tr>
        <th scope="col">Service</th><th scope="col" class="wide">State</th><th scope="col" class="num">Req/s</th>
        <th scope="col" class="num">Errors</th><th scope="col" class="num">p95</th><th scope="col" class="num">Tasks up</th>
        <th scope="col" class="wide">Errors over ${span((window.end - window.start) * 1000)}</th>
      </tr></thead>
      <tbody>${shown.map((row) => html`<${Row} key=${`${row.environment}/${row.service}`} ...${{ row, objective, manyEnvironments }} />`)}</tbody>
    </table>`}
  <//>`;
}

function Row({ row, objective, manyEnvironments }) {
  const failing = row.error_ratio !== null && row.error_ratio > objective.error_ratio;
  const slow = row.p95_seconds !== null && row.p95_seconds > objective.p95_seconds;
  const missing = row.tasks_up !== null && row.tasks_expected !== null && row.tasks_up < row.tasks_expected;
  const state = html`<${State} state=${row.state} word=${row.reason} />`;
  return html`<tr data-row tabindex="-1">
    <th scope="row">${row.service}${manyEnvironments ? html` <span class="muted">${row.environment}</span>` : null}<span class="narrow">${state}</span></th>
    <td class="wide">${state}</td>
    <td class="num">${count(row.requests_per_second)}</td>
    <td class=${failing ? 'num over critical' : 'num'}>${percent(row.error_ratio)}</td>
    <td class=${slow ? 'num over warning' : 'num'}>${seconds(row.p95_seconds)}</td>
    <td class=${missing ? 'num over critical' : 'num'}>${row.tasks_up ?? UNKNOWN}/${row.tasks_expected ?? UNKNOWN}</td>
    <td class="wide"><${Sparkline} values=${row.error_history} limit=${objective.error_ratio} alarming=${failing} /></td>
  </tr>`;
}

function NoServices() {
  return html`<${Empty}>No service has been scraped yet. Add the sidecar to a task definition; its task is found where a discovery in <code>scrape_configs</code> covers it.<//>`;
}
