import assert from 'node:assert/strict';
import { test } from 'node:test';

import { greatest, last, polylines, toColumns } from '../../app/series.js';

test('samples fall on the grid, holes stay holes', () => {
  const matrix = [{ metric: { service: 'order' }, values: [[100, '1'], [130, '3'], [145, 'NaN']] }];
  const { times, series } = toColumns(matrix, 100, 160, 15);
  assert.deepEqual(times, [100, 115, 130, 145, 160]);
  assert.deepEqual(series, [{ labels: { service: 'order' }, values: [1, null, 3, null, null] }]);
});

test('samples outside the window are left out', () => {
  const { series } = toColumns([{ metric: {}, values: [[85, '1'], [100, '2'], [175, '3']] }], 100, 160, 15);
  assert.deepEqual(series[0].values, [2, null, null, null, null]);
});

test('nothing known is undefined, not zero', () => {
  assert.equal(last([null, null]), undefined);
  assert.equal(greatest([]), undefined);
  assert.equal(last([1, 2, null]), 2);
  assert.equal(greatest([-3, null, -1]), -1);
});

test('a line breaks at a gap and stays inside its box', () => {
  const pieces = polylines([0, 10, null, 5], 30, 20, 5);
  assert.deepEqual(pieces, [[[0, 20], [10, 0]], [[30, 0]]]);
});
