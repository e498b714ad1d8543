// Requests to the collector that served the page. Addresses are relative to the page, so a path prefix before the
// collector needs no setting.

import { token } from './state.js';

const TIMEOUT_MS = 15_000;

/** `unreachable`: no answer at all; otherwise the collector answered and said why not. */
export class ApiError extends Error {
  /** @param {string} message @param {{unreachable?: boolean, status?: number}} [about] */
  constructor(message, about = {}) {
    super(message);
    this.unreachable = about.unreachable ?? false;
    this.status = about.status;
  }
}

async function request(path, init) {
  const headers = { accept: 'application/json' };
  if (token.value) headers.authorization = `Bearer ${token.value}`;
  let response;
  try {
    response = await fetch(path, { ...init, headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch (error) {
    const reason = error.name === 'TimeoutError' ? `no answer within ${TIMEOUT_MS / 1000} s` : 'the collector does not answer';
    throw new ApiError(reason, { unreachable: true });
  }
  const body = await response.json().catch(() => undefined);
  if (!response.ok) {
    throw new ApiError(body?.error ?? body?.message ?? `${response.status} ${response.statusText}`, { status: response.status });
  }
  if (body === undefined) throw new ApiError('the answer is not JSON', { status: response.status });
  return body;
}

/** One of the pages' own documents: `overview`, `alerts`. */
export const page = (name) => request(`./api/ui/v1/${name}`);

/** The `data` of an answer of the Prometheus API. */
export const prometheus = async (path) => (await request(`./api/v1/${path}`)).data;

/** A range query; `start`, `end` and `step` in seconds. */
export async function queryRange(query, { start, end, step }) {
  const body = new URLSearchParams({ query, start: String(start), end: String(end), step: String(step) });
  return (await request('./api/v1/query_range', { method: 'POST', body })).data.result;
}
