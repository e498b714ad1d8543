// What fires, what is about to, and which rules are quiet?
import { useEffect, useMemo } from 'preact/hooks';

import * as api from '../api.js';
import { Alert } from '../components/alert.js';
import { Empty, Failure, Panel, Skeleton } from '../components/panel.js';
import { Glyph, State } from '../components/severity.js';
import { plural } from '../format.js';
import { html } from '../html.js';
import { poll } from '../poll.js';
import { route, setParams } from '../router.js';
import { firing, now } from '../state.js';
import { relative, span } from '../time.js';

const INTERVAL_MS = 5_000;
const ORDER = { firing: 0, pending: 1, inactive: 2 };

export default function Alerts() {
  const feed = useMemo(() => poll(() => api.page('alerts'), INTERVAL_MS), []);
  useEffect(() => feed.stop, []);
  const data = feed.data.value;
  useEffect(() => {
    if (data) firing.value = data.alerts.filter((alert) => alert.state === 'firing' && !onPurpose(alert)).length;
  }, [data]);
  if (!data) {
    const error = feed.error.value;
    return html`<h1 class="away">Alerts</h1>${error ? html`<${Failure} error=${error} retry=${feed.refresh} />` : html`<${Skeleton} height=${64} />`}`;
  }
  const of = (state) => data.alerts.filter((alert) => alert.state === state && !onPurpose(alert));
  const [fires, pends, purposes] = [of('firing'), of('pending'), data.alerts.filter(onPurpose)];
  const stale = feed.stale.value;
  return html`
    <section class=${`verdict ${fires.length > 0 ? worst(fires) : 'ok'}`} aria-label="Verdict">
      <h1><span role="status"><${Glyph} state=${fires.length > 0 ? worst(fires) : 'ok'} /> ${fires.length > 0 ? `${plural(fires.length, 'alert')} firing` : 'Nothing is firing'}</span></h1>
      <p>${pends.length} pending · ${plural(data.rules.length, 'alert rule')} · <span class=${stale ? 'state warning' : 'muted'}>${stale ? '◆ ' : ''}updated ${span(now.value - feed.updatedAt.value)} ago</span></p>
    </section>
    <div class=${stale ? 'grid stale' : 'grid'}>
      <div class="row">
        <${List} title="Firing" alerts=${fires} empty="Nothing is firing." />
        ${pends.length > 0 ? html`<${List} title="Pending" alerts=${pends} />` : null}
        ${purposes.length > 0 ? html`<${List} title="Firing on purpose" alerts=${purposes} />` : null}
        <${Rules} rules=${data.rules} />
      </div>
    </div>`;
}

/** A dead man's switch: nothing is wrong while it fires. */
const onPurpose = ({ severity }) => severity === 'none';

const worst = (alerts) => (alerts.some(({ severity }) => severity === 'critical') ? 'critical' : 'warning');

function List({ title, alerts, empty }) {
  return html`<${Panel} title=${title} aside=${html`<span class="muted">${alerts.length}</span>`}>
    ${alerts.length === 0 ? html`<${Empty}>${empty}<//>` : alerts.map((alert) => html`<${Alert} key=${alert.id} alert=${alert} labels=${true} />`)}
  <//>`;
}

function Rules({ rules }) {
  const filter = route.value.params.get('q') ?? '';
  const shown = rules
    .filter(({ name, group, query }) => `${name} ${group} ${query}`.toLowerCase().includes(filter.trim().toLowerCase()))
    .toSorted((a, b) => ORDER[a.state] - ORDER[b.state] || a.name.localeCompare(b.name));
  const search = html`<input type="search" aria-label="Filter rules" placeholder="Filter ( / )" value=${filter}
    onInput=${(event) => setParams({ q: event.target.value }, { replace: true })} />`;
  return html`<${Panel} title="Alert rules" aside=${rules.length > 0 ? search : null}>
    ${rules.length === 0 ? html`<${Empty}>No alert rule is loaded: name rule files in <code>rule_files</code>.<//>` : shown.length === 0 ? html`<${Empty}>No rule matches “${filter}”.<//>` : html`<div class="scroll" role="group" aria-label="Alert rules" tabindex="0"><table class="data rules stack">
      <thead><tr><th scope="col">Rule</th><th scope="col">State</th><th scope="col">Condition</th><th scope="col" class="num">For</th><th scope="col" class="num">Evaluated</th></tr></thead>
      <tbody>${shown.map((rule) => html`<tr key=${`${rule.group}/${rule.name}`} data-row tabindex="-1">
        <th scope="row">${rule.name}<br /><span class="muted">${rule.group}</span></th>
        <td><${RuleState} rule=${rule} /></td>
        <td class="full"><code class="expr">${rule.query}</code>${rule.last_error ? html`<br /><${State} state="warning" word=${rule.last_error} />` : null}</td>
        <td class="num" data-label="for">${rule.for_seconds === 0 ? 'at once' : span(rule.for_seconds * 1000)}</td>
        <td class="num" data-label="evaluated">${rule.evaluated_at ? relative(rule.evaluated_at, now.value) : 'not yet'}</td>
      </tr>`)}</tbody>
    </table></div>`}
  <//>`;
}

function RuleState({ rule }) {
  if (rule.health === 'err') return html`<${State} state="warning" word="fails" />`;
  if (rule.health === 'unknown') return html`<${State} state="unknown" word="not evaluated" />`;
  if (rule.state === 'firing' && onPurpose(rule)) return html`<${State} state="info" word="firing on purpose" />`;
  if (rule.state === 'firing') return html`<${State} state=${rule.severity === 'critical' ? 'critical' : 'warning'} word="firing" />`;
  return html`<${State} state=${rule.state === 'pending' ? 'pending' : 'ok'} word=${rule.state} />`;
}
