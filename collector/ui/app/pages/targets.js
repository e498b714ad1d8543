// Is every task scraped, and if not, why?
import { useEffect, useMemo } from 'preact/hooks';

import * as api from '../api.js';
import { Empty, Failure, Panel, Skeleton } from '../components/panel.js';
import { Glyph, State } from '../components/severity.js';
import { plural, seconds } from '../format.js';
import { html } from '../html.js';
import { poll } from '../poll.js';
import { route, setParams } from '../router.js';
import { now } from '../state.js';
import { relative, span } from '../time.js';

const INTERVAL_MS = 5_000;
/** More rows than this make the page slow; the filter finds the rest. */
const ROWS_MAX = 200;
const ORDER = { down: 0, unknown: 1, up: 2 };

export default function Targets() {
  const feed = useMemo(() => poll(() => api.prometheus('targets?state=active'), INTERVAL_MS), []);
  useEffect(() => feed.stop, []);
  const data = feed.data.value;
  if (!data) {
    const error = feed.error.value;
    return html`<h1 class="away">Targets</h1>${error ? html`<${Failure} error=${error} retry=${feed.refresh} />` : html`<${Skeleton} height=${64} />`}`;
  }
  const targets = data.activeTargets;
  const down = targets.filter(({ health }) => health === 'down').length;
  const up = targets.filter(({ health }) => health === 'up').length;
  const state = targets.length === 0 ? 'unknown' : down > 0 ? 'critical' : up < targets.length ? 'unknown' : 'ok';
  const sentence =
    targets.length === 0 ? 'No target is known' : down > 0 ? `${plural(down, 'target')} of ${targets.length} cannot be scraped` : up < targets.length ? `${up} of ${plural(targets.length, 'target')} scraped so far` : `All ${plural(targets.length, 'target')} are up`;
  const stale = feed.stale.value;
  return html`
    <section class=${`verdict ${state}`} aria-label="Verdict">
      <h1><span role="status"><${Glyph} state=${state} /> ${sentence}</span></h1>
      <p>${jobs(targets)} · <span class=${stale ? 'state warning' : 'muted'}>${stale ? '◆ ' : ''}updated ${span(now.value - feed.updatedAt.value)} ago</span></p>
    </section>
    <div class=${stale ? 'grid stale' : 'grid'}><div class="row"><${List} targets=${targets} /></div></div>`;
}

/** `ecs 12/12 · collector 1/1` */
function jobs(targets) {
  const byJob = Map.groupBy ? Map.groupBy(targets, ({ scrapePool }) => scrapePool) : new Map([['all', targets]]);
  const parts = [...byJob].map(([job, list]) => `${job} ${list.filter(({ health }) => health === 'up').length}/${list.length}`);
  return parts.join(' · ') || 'no job';
}

function List({ targets }) {
  const filter = route.value.params.get('q') ?? '';
  const words = filter.trim().toLowerCase();
  const matching = targets
    .filter((target) => `${target.scrapeUrl} ${Object.values(target.labels).join(' ')} ${target.lastError}`.toLowerCase().includes(words))
    .toSorted((a, b) => ORDER[a.health] - ORDER[b.health] || a.scrapePool.localeCompare(b.scrapePool) || a.scrapeUrl.localeCompare(b.scrapeUrl));
  const shown = matching.slice(0, ROWS_MAX);
  const search = html`<input type="search" aria-label="Filter targets" placeholder="Filter ( / )" value=${filter}
    onInput=${(event) => setParams({ q: event.target.value }, { replace: true })} />`;
  return html`<${Panel} title="Targets" aside=${targets.length > 0 ? search : null}>
    ${targets.length === 0 ? html`<${Empty}>Discovery has found nothing. See <code>scrape_configs</code> in the configuration.<//>` : matching.length === 0 ? html`<${Empty}>No target matches “${filter}”.<//>` : html`
      <div class="scroll" role="group" aria-label="Targets" tabindex="0"><table class="data stack">
        <thead><tr><th scope="col">Target</th><th scope="col">State</th><th scope="col">Service</th><th scope="col">Task</th><th scope="col" class="num">Last scrape</th><th scope="col" class="num">Took</th></tr></thead>
        <tbody>${shown.map((target) => html`<${Row} key=${`${target.scrapePool} ${target.scrapeUrl}`} target=${target} />`)}</tbody>
      </table></div>
      ${matching.length > shown.length ? html`<p class="note">${matching.length - shown.length} more: use the filter.</p>` : null}`}
  <//>`;
}

const HEALTH = { up: ['ok', 'up'], down: ['critical', 'down'], unknown: ['unknown', 'not scraped yet'] };

function Row({ target }) {
  const { labels, health, lastError, lastScrape, lastScrapeDuration } = target;
  const [state, word] = HEALTH[health] ?? ['unknown', health];
  const at = Date.parse(lastScrape);
  // Prometheus writes the year 1 for a target that was never scraped.
  const scraped = at > 0;
  return html`<tr data-row tabindex="-1">
    <th scope="row">${labels.instance}<br /><span class="muted">${target.scrapePool}</span></th>
    <td><${State} state=${state} word=${word} />${lastError ? html`<span class="error-text">${lastError}</span>` : null}</td>
    <td>${labels.service ?? ''}</td>
    <td>${labels.task_id ? html`<code title=${labels.task_id}>${labels.task_id.slice(0, 8)}</code>` : ''}</td>
    <td class="num" data-label="scraped">${scraped ? relative(at, now.value) : 'not yet'}</td>
    <td class="num" data-label="in">${scraped ? seconds(lastScrapeDuration) : ''}</td>
  </tr>`;
}
