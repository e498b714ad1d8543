// A state is a glyph, a word and a colour together, never a colour alone.
import { html } from '../html.js';

const GLYPHS = { critical: '▲', warning: '◆', info: '●', ok: '✓', unknown: '○', pending: '◇' };

/** The name of the class that colours it; what we do not know is unknown. */
export const level = (severity) => (severity in GLYPHS ? severity : 'info');

export const Glyph = ({ state }) => html`<span class="glyph" aria-hidden="true">${GLYPHS[state]}</span>`;

/** `word` defaults to the state itself. */
export function State({ state, word }) {
  const known = level(state);
  return html`<span class=${`state ${known}`}><${Glyph} state=${known} /> ${word ?? state}</span>`;
}
