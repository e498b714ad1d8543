// What the collector does in AWS: the next and the last scaling actions, and whether the dashboards are what we published.
import { html } from '../html.js';
import { now } from '../state.js';
import { hourMinute, hourMinuteSecond, moment, relative } from '../time.js';
import { Empty, Panel } from './panel.js';
import { Glyph, State } from './severity.js';

const OUTCOMES = { applied: ['ok', 'applied'], failed: ['critical', 'failed'], held: ['info', 'held back'] };
const STATES = { in_sync: ['ok', 'as scheduled'], held: ['info', 'held back'], failed: ['critical', 'failed'] };

const bounds = (of) => (of ? `${of.min}–${of.max}` : 'no bounds');

export function Scaling({ scaling }) {
  if (!scaling) return html`<${Panel} title="Scaling"><${Empty}>No schedule is configured (<code>scaling</code>).<//><//>`;
  const { next, targets, history, checked_at: checkedAt, error } = scaling;
  const aside = checkedAt ? html`<span class="muted">compared ${relative(checkedAt, now.value)}</span>` : null;
  return html`<${Panel} title="Scaling" aside=${aside}>
    ${error ? html`<p><${State} state="critical" word=${error} /></p>` : null}
    <p class="next">${next ? html`<strong>Next: ${next.service} to ${bounds(next)} tasks</strong> ${relative(next.at, now.value)}, at ${hourMinute(next.at)} <span class="muted">(${next.schedule})</span>` : checkedAt ? 'No change is coming.' : 'AWS has not been asked yet.'}</p>
    <ul class="targets">${targets.map(({ resource, service, actual, wanted, state, reason, window }) => {
      const [glyph, word] = STATES[state] ?? ['unknown', state];
      return html`<li key=${resource}>
        <strong>${service}</strong> <span>${bounds(actual)}${state === 'in_sync' ? '' : ` (wanted ${bounds(wanted)})`}</span>
        <${State} state=${glyph} word=${reason ? `${word}: ${reason}` : word} />
        ${window ? html`<span class="muted">${window}</span>` : null}
      </li>`;
    })}</ul>
    ${history.length === 0 ? null : html`<h3>Last actions</h3><ul class="changes">${history.map((action) => {
      const [glyph, word] = OUTCOMES[action.outcome] ?? ['unknown', action.outcome];
      const service = action.resource.split('/').at(-1);
      const change = action.after ? `${bounds(action.before)} → ${bounds(action.after)}` : bounds(action.before);
      return html`<li key=${`${action.at}${action.resource}`}>
        <time title=${moment(action.at, now.value)}>${hourMinuteSecond(action.at)}</time>
        <span class=${`state ${glyph}`}><${Glyph} state=${glyph} /></span>
        <span>${service} ${change} ${word} <span class="muted">${action.reason}</span></span>
      </li>`;
    })}</ul>`}
  <//>`;
}

const SYNC = { in_sync: ['ok', 'in sync'], failed: ['critical', 'failed'] };

export function CloudWatch({ cloudwatch }) {
  if (!cloudwatch) return html`<${Panel} title="CloudWatch"><${Empty}>Nothing is published (<code>cloudwatch</code> is not configured).<//><//>`;
  const { dashboards, checked_at: checkedAt, region, error } = cloudwatch;
  const aside = html`<span class="muted">${region}${checkedAt ? `, compared ${relative(checkedAt, now.value)}` : ''}</span>`;
  return html`<${Panel} title="CloudWatch dashboards" aside=${aside}>
    ${error ? html`<p><${State} state="critical" word=${error} /></p>` : null}
    ${dashboards.length === 0 ? html`<${Empty}>${checkedAt ? 'No service is named for a dashboard.' : 'CloudWatch has not been compared yet.'}<//>` : html`<ul class="dashboards">${dashboards.map(({ name, url, state, published_at: at, drifts, messages }) => {
        const [glyph, word] = SYNC[state] ?? ['unknown', state];
        return html`<li key=${name}>
          <a href=${url} target="_blank" rel="noopener">${name}</a>
          <${State} state=${glyph} word=${word} />
          ${at ? html`<span class="muted">written ${relative(at, now.value)}</span>` : null}
          ${drifts > 0 ? html`<${State} state="warning" word=${`edited by others ${drifts}×, put back`} />` : null}
          ${messages.length > 0 ? html`<span class="muted wrap">${messages.join('; ')}</span>` : null}
        </li>`;
      })}</ul>`}
  <//>`;
}
