import assert from 'node:assert/strict';
import { test } from 'node:test';

process.env.TZ = 'UTC';
const { hourMinuteSecond, moment, relative, span } = await import('../../app/time.js');

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

test('a span has one unit, hours also their minutes', () => {
  const cases = [[-5, '0 s'], [43 * SECOND, '43 s'], [59.6 * SECOND, '1 min'], [24 * MINUTE, '24 min'], [3 * HOUR, '3 h'], [3 * HOUR + 5 * MINUTE, '3 h 5 min'], [47 * HOUR, '47 h'], [50 * HOUR, '2 d']];
  for (const [value, text] of cases) assert.equal(span(value), text);
});

test('the future is ahead, the past is ago', () => {
  assert.equal(relative(42 * MINUTE, 0), 'in 42 min');
  assert.equal(relative(0, 43 * SECOND), '43 s ago');
});

test('another day is named', () => {
  const noon = Date.UTC(2026, 10, 20, 12, 0, 5);
  assert.equal(moment(noon, noon + HOUR), '12:00:05');
  assert.match(moment(noon, noon + 24 * HOUR), /^Fri,? 20 Nov 12:00$/);
});

test('the clock has 24 hours and midnight is 00', () => {
  assert.equal(hourMinuteSecond(Date.UTC(2026, 10, 20, 18, 3, 22)), '18:03:22');
  assert.equal(hourMinuteSecond(Date.UTC(2026, 10, 20, 0, 0, 0)), '00:00:00');
});
