// What to look at and what to do when an alert fires: the page that an alert's runbook link opens.
import { useEffect, useMemo } from 'preact/hooks';

import * as api from '../api.js';
import { Failure, Skeleton } from '../components/panel.js';
import { html } from '../html.js';
import { markdown } from '../markdown.js';
import { poll } from '../poll.js';
import { route } from '../router.js';

/** Runbooks change with a release. */
const INTERVAL_MS = 600_000;

export default function Runbook() {
  const name = route.value.params.get('name') ?? '';
  const feed = useMemo(() => poll(() => api.page(`runbooks/${encodeURIComponent(name)}`), INTERVAL_MS), [name]);
  useEffect(() => feed.stop, [feed]);
  const data = feed.data.value;
  if (data) return html`<article class="panel prose">${markdown(data.text)}</article>`;
  const error = feed.error.value;
  return html`<h1 class="away">Runbook</h1>${error ? html`<${Failure} error=${error} retry=${feed.refresh} />` : html`<${Skeleton} height=${320} />`}`;
}
