// One alert with what an on-call person needs before opening anything else: what, where, since when, the task's own
// last words, whether Alertmanager knows.
import { useState } from 'preact/hooks';

import { html } from '../html.js';
import { now } from '../state.js';
import { hourMinuteSecond, moment, span } from '../time.js';
import { State, level } from './severity.js';

/** Labels that the head line or the service column already tells. */
const TOLD = new Set(['alertname', 'severity', 'service', 'environment', '__name__']);

export function Alert({ alert, labels = false }) {
  const { name, severity, state, service, environment, active_at: activeAt, summary, description } = alert;
  const shown = state === 'pending' ? 'pending' : level(severity);
  return html`<article class=${`alert ${shown}`} data-row tabindex="-1" aria-label=${`${name} ${service ?? ''}`}>
    <p class="alert-head">
      <${State} state=${shown} word=${state === 'pending' ? `pending ${severity}` : severity} />
      <strong>${name}</strong>
      ${service ? html`<span>${service}</span>` : null}
      ${environment ? html`<span class="muted">${environment}</span>` : null}
      <span class="muted" title=${`since ${moment(activeAt, now.value)}`}>${span(now.value - activeAt)}</span>
    </p>
    ${summary ? html`<p>${summary}</p>` : null}
    ${labels && description ? html`<p class="muted">${description}</p>` : null}
    ${labels ? html`<${Labels} labels=${alert.labels} />` : null}
    <${Evidence} evidence=${alert.evidence} />
    <p class="alert-foot">
      ${alert.runbook_url ? html`<a href=${alert.runbook_url} target="_blank" rel="noopener">Runbook</a>` : null}
      <${Delivery} delivery=${alert.delivery} />
    </p>
  </article>`;
}

function Labels({ labels }) {
  const rest = Object.entries(labels).filter(([name]) => !TOLD.has(name));
  if (rest.length === 0) return null;
  return html`<p class="labels">${rest.map(([name, value]) => html`<code key=${name}>${name}=${value}</code> `)}</p>`;
}

/** The offending task's last error lines, or why they could not be had, and what ECS says of it. */
function Evidence({ evidence }) {
  if (!evidence) return null;
  const { logs, trace_id: trace, task, image_digest: image, deployment, stops, error } = evidence;
  return html`<div class="evidence">
    ${logs.length > 0
      ? html`<p class="muted">Last error lines${task ? html` of task <code>${task.slice(0, 8)}</code>` : null}</p>
          <pre tabindex="0" aria-label="Last error lines">${logs.map((line) => html`<${LogLine} line=${line} />`)}</pre>`
      : null}
    ${trace ? html`<p class="trace"><span class="muted">Trace</span> <code>${trace}</code> <${Copy} text=${trace} /></p>` : null}
    ${[['Deployment', deployment], ['Stopped', stops], ['Image', image]].map(([what, text]) => (text ? html`<p key=${what} class="trace"><span class="muted">${what}</span> <code>${text}</code></p>` : null))}
    ${error ? html`<p class="muted"><span aria-hidden="true">○</span> No log lines: ${error}</p>` : null}
  </div>`;
}

/** `2026-11-20T18:03:22.123Z payment failed` with the time in the reader's clock. */
function LogLine({ line }) {
  const at = Date.parse(line.split(' ', 1)[0]);
  if (Number.isNaN(at)) return html`<span class="line">${line}</span>`;
  return html`<span class="line"><time>${hourMinuteSecond(at)}</time> ${line.slice(line.indexOf(' ') + 1)}</span>`;
}

function Delivery({ delivery }) {
  if (!delivery) return null;
  const { state, at, error } = delivery;
  if (state === 'delivered') return html`<span><span aria-hidden="true">✓</span> delivered to Alertmanager ${hourMinuteSecond(at)}</span>`;
  if (state === 'failed') return html`<${State} state="warning" word=${`not delivered: ${error}`} />`;
  return html`<span class="muted"><span aria-hidden="true">○</span> ${error ?? 'not sent yet'}</span>`;
}

function Copy({ text }) {
  const [copied, setCopied] = useState(false);
  const copy = () =>
    navigator.clipboard.writeText(text).then(() => {
      setCopied(true);
      setTimeout(() => setCopied(false), 1500);
    });
  // The clipboard exists on https and on localhost only.
  if (!navigator.clipboard) return null;
  return html`<button type="button" class="button small" onClick=${copy} aria-label="Copy the trace id">${copied ? 'Copied' : 'Copy'}</button>`;
}
