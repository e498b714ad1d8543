// A titled box and the states that every box can be in: loading, failed, empty, stale.
import { useEffect, useState } from 'preact/hooks';

import { html } from '../html.js';
import { setToken, token } from '../state.js';

let ids = 0;

/** A landmark with a heading; `aside` stands at the end of the head line. */
export function Panel({ title, aside, className = '', children }) {
  const [id] = useState(() => `panel-${(ids += 1)}`);
  return html`<section class=${`panel ${className}`} aria-labelledby=${id}>
    <div class="panel-head"><h2 id=${id}>${title}</h2>${aside}</div>
    ${children}
  </section>`;
}

/** Nothing for 150 ms, then a grey box of the size that the content will have: quick answers do not flicker. */
export function Skeleton({ height }) {
  const [shown, setShown] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setShown(true), 150);
    return () => clearTimeout(timer);
  }, []);
  return html`<div class=${shown ? 'skeleton shown' : 'skeleton'} style=${{ height: `${height}px` }} role="status">
    <span class="away">Loading</span>
  </div>`;
}

/** Why something is not there, what was asked, and a way to ask again. */
export function Failure({ error, query, retry }) {
  if (error.status === 401) return html`<${SignIn} retry=${retry} />`;
  return html`<div class="failure" role="alert">
    <p><span class="glyph" aria-hidden="true">▲</span> ${error.message}</p>
    ${query ? html`<pre tabindex="0">${query}</pre>` : null}
    ${retry ? html`<button type="button" class="button" onClick=${retry}>Retry</button>` : null}
  </div>`;
}

/** The collector asks who it is (`web.auth`). */
function SignIn({ retry }) {
  const given = token.value !== '';
  const submit = (event) => {
    event.preventDefault();
    setToken(new FormData(event.target).get('token').trim());
    retry?.();
  };
  return html`<form class="panel sign-in" onSubmit=${submit}>
    <h2>${given ? 'This token is not known' : 'This collector asks who you are'}</h2>
    <p class="muted">Paste a bearer token of its configuration (<code>web.auth</code>). It is kept until the tab is closed.</p>
    <label>Token <input name="token" type="password" autocomplete="off" required /></label>
    <button class="button">Sign in</button>
  </form>`;
}

export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}
