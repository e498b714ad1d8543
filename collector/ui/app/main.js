// Starts the page: the shell at once, the page's own module when it is needed.
import { render } from 'preact';

import { html } from './html.js';
import { Shell } from './components/shell.js';

render(html`<${Shell} />`, document.getElementById('app'));
