// What stands round every page: skip link, navigation, theme, banner when the collector does not answer, key help.
import { useEffect, useRef, useState } from 'preact/hooks';

import { html } from '../html.js';
import { KEYS, listen } from '../keys.js';
import { PAGES, onClick, route } from '../router.js';
import { firing, keepTitle, now, reachable, theme, toggleTheme } from '../state.js';
import { span } from '../time.js';
import { Failure, Skeleton } from './panel.js';

export function Shell() {
  const { page } = route.value;
  const help = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => listen({ help: () => help.current?.showModal() }), []);
  return html`
    <a class="skip" href="#content">Skip to the content</a>
    <header class="top">
      <span class="brand"><span class="mark" aria-hidden="true"></span>Picket</span>
      <nav aria-label="Pages"><${Links} current=${page} /></nav>
      <div class="tools">
        <button type="button" class="tool keys" onClick=${() => help.current?.showModal()} aria-label="Keyboard" title="Keyboard (?)">?</button>
        <${ThemeButton} />
      </div>
    </header>
    <${Unreachable} />
    <main id="content" tabindex="-1"><${Page} page=${page} key=${page.name} /></main>
    <dialog ref=${help} class="help" aria-labelledby="help-title">
      <h2 id="help-title">Keyboard</h2>
      <dl>${KEYS.map(([key, what]) => html`<dt><kbd>${key}</kbd></dt><dd>${what}</dd>`)}</dl>
      <form method="dialog"><button class="button">Close</button></form>
    </dialog>
  `;
}

function Links({ current }) {
  return PAGES.map(
    (page) => html`<a
      href=${`./${page.path}`}
      onClick=${(event) => onClick(event, page)}
      aria-current=${page === current ? 'page' : undefined}
    >${page.title}${page.name === 'alerts' && firing.value > 0 ? html`<span class="badge">${firing.value}<span class="away"> firing</span></span>` : null}</a>`,
  );
}

function ThemeButton() {
  const other = theme.value === 'dark' ? 'light' : 'dark';
  return html`<button type="button" class="tool" onClick=${toggleTheme} aria-label=${`Switch to ${other}`} title=${`Switch to ${other} (d)`}>
    <span aria-hidden="true">${theme.value === 'dark' ? '☀' : '☾'}</span>
  </button>`;
}

function Unreachable() {
  const { ok, retryAt } = reachable.value;
  if (ok) return null;
  return html`<p class="unreachable" role="alert">
    <span aria-hidden="true">▲</span> The collector does not answer; this is the last that was known.
    <span aria-hidden="true"> Trying again in ${span(Math.max(0, retryAt - now.value))}.</span>
  </p>`;
}

/** Loads the page's module; a failure says so and can be retried. */
function Page({ page }) {
  const [state, setState] = useState({});
  const load = () => page.load().then(({ default: Component }) => setState({ Component }), (error) => setState({ error }));
  useEffect(() => {
    load();
    return keepTitle(page.title);
  }, []);
  if (state.Component) return html`<${state.Component} />`;
  if (state.error) return html`<${Failure} error=${state.error} retry=${load} />`;
  return html`<${Skeleton} height=${64} />`;
}
