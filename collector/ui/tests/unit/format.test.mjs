import assert from 'node:assert/strict';
import { test } from 'node:test';

import { count, percent, plural, seconds, UNKNOWN } from '../../app/format.js';

test('what is not known is a dash, never a zero', () => {
  for (const format of [count, percent, seconds]) {
    for (const value of [null, undefined, NaN, Infinity]) assert.equal(format(value), UNKNOWN);
  }
});

test('counts keep three digits and their order of magnitude', () => {
  const cases = [[0, '0'], [0.004, '<0.01'], [0.05, '0.05'], [3.8, '3.8'], [9.999, '10.0'], [38.21, '38.2'], [412.4, '412'], [999.4, '999'], [999.6, '1.0k'], [1834, '1.8k'], [43_210, '43k'], [999_999, '1.0M'], [2_500_000, '2.5M']];
  for (const [value, text] of cases) assert.equal(count(value), text, String(value));
});

test('ratios are written as per cent, small ones with two digits', () => {
  const cases = [[0, '0%'], [0.00001, '<0.01%'], [0.004, '0.40%'], [0.098, '9.8%'], [0.05, '5.0%'], [0.996, '100%'], [1, '100%']];
  for (const [value, text] of cases) assert.equal(percent(value), text, String(value));
});

test('times are written in the unit that fits', () => {
  const cases = [[0, '0 ms'], [0.00042, '420 µs'], [0.0042, '4.2 ms'], [0.084, '84 ms'], [0.61, '610 ms'], [0.9999, '1.00 s'], [2.31, '2.31 s'], [12.34, '12.3 s'], [192, '3.2 min']];
  for (const [value, text] of cases) assert.equal(seconds(value), text, String(value));
});

test('one is singular', () => {
  assert.equal(plural(1, 'alert'), '1 alert');
  assert.equal(plural(0, 'alert'), '0 alerts');
});
