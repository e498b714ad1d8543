// What the collector does in AWS: the next and the last scaling actions, and whether the dashboards are what we published.
import { html } from '../html.js';
import { now } from '../state.js';
import { hourMinute, hourMinuteSecond, moment, relative } from '../time.js';
import { Empty, Panel } from './panel.js';
import { State } from './severity.js';

const RESULTS = { applied: ['ok', 'applied'], failed: ['critical', 'failed'], held: ['info', 'held back'] };

export function Scaling({ scaling }) {
  if (!scaling) return html`<${Panel} title="Scaling"><${Empty}>No schedule is configured (<code>scaling</code>).<//><//>`;
  const { next, last, error } = scaling;
  return html`<${Panel} title="Scaling">
    ${error ? html`<p><${State} state="warning" word=${error} /></p>` : null}
    ${next
      ? html`<p class="next"><strong>Next: ${next.service} ${next.change}</strong> at ${hourMinute(next.at)}, ${relative(next.at, now.value)}${next.schedule ? html` <span class="muted">(${next.schedule})</span>` : null}</p>`
      : html`<p class="next">No action is planned.</p>`}
    ${last.length === 0 ? html`<${Empty}>No action yet since the collector started.<//>` : html`<table class="data plain">
      <thead><tr><th scope="col">When</th><th scope="col">Service</th><th scope="col">Change</th><th scope="col">Result</th></tr></thead>
      <tbody>${last.map((action) => {
        const [state, word] = RESULTS[action.result] ?? ['unknown', action.result];
        return html`<tr key=${`${action.at}${action.service}`}>
          <td title=${moment(action.at, now.value)}>${hourMinuteSecond(action.at)}</td><th scope="row">${action.service}</th>
          <td class="change">${action.change}</td><td><${State} state=${state} word=${action.detail ? `${word}: ${action.detail}` : word} /></td>
        </tr>`;
      })}</tbody>
    </table>`}
  <//>`;
}

const SYNC = { in_sync: ['ok', 'in sync'], drifted: ['warning', 'drifted'], failed: ['critical', 'failed'], pending: ['unknown', 'not published yet'] };

export function CloudWatch({ cloudwatch }) {
  if (!cloudwatch) return html`<${Panel} title="CloudWatch"><${Empty}>Nothing is published (<code>cloudwatch</code> is not configured).<//><//>`;
  const { dashboards, last_run: lastRun, error } = cloudwatch;
  const aside = lastRun ? html`<span class="muted">checked ${relative(lastRun, now.value)}</span>` : null;
  return html`<${Panel} title="CloudWatch dashboards" aside=${aside}>
    ${error ? html`<p><${State} state="critical" word=${error} /></p>` : null}
    ${dashboards.length === 0 ? html`<${Empty}>No dashboard yet: one is published for each service that is found.<//>` : html`<table class="data plain">
      <tbody>${dashboards.map(({ name, state, error: reason }) => {
        const [glyph, word] = SYNC[state] ?? ['unknown', state];
        return html`<tr key=${name}><th scope="row">${name}</th><td><${State} state=${glyph} word=${reason ? `${word}: ${reason}` : word} /></td></tr>`;
      })}</tbody>
    </table>`}
  <//>`;
}
