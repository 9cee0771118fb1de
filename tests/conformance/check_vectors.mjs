#!/usr/bin/env node
/**
 * A second implementation of docs/reference/conformance/README.md, written from that page alone,
 * without knowledge of the first implementation: SplitMix64, splitter versions 1 and 2, the refusals of
 * order requests, the rules of a schedule, and the format of times. It computes every answer from
 * the inputs of a case, and then compares it with the file.
 *
 *   node check_vectors.mjs splitting-v1.json   checks every case; exit 0 only if all of them pass
 *   node check_vectors.mjs --derive < terms    reads one JSON object of terms per line, and prints
 *                                              one schedule per line
 *
 * Node 18 or later, no dependencies.
 *
 * @typedef {object} Terms
 * @property {number} total_quantity
 * @property {number} num_splits
 * @property {number} duration_minutes
 * @property {boolean} randomize
 * @property {string} seed        16 hex digits
 * @property {string} starts_at   RFC 3339, UTC, written with Z
 * @property {string[][]} [sessions]  pairs of an open and a close; none for version 1
 *
 * @typedef {{quantities: bigint[], offsets: bigint[], scheduledAt: string[]}} Schedule
 */

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const PARTS = ['random', 'schedules', 'accepted_orders', 'invalid_orders', 'broken_schedules'];

// ---------------------------------------------------------------------------- whole numbers

const range = (count) => Array.from({ length: count }, (_, i) => i);
const abs = (value) => (value < 0n ? -value : value);
const max = (a, b) => (a > b ? a : b);
const min = (a, b) => (a < b ? a : b);
const sum = (values) => values.reduce((total, value) => total + value, 0n);

/** a // b of the page: rounds towards minus infinity; b is above zero. */
function floorDiv(a, b) {
  const quotient = a / b;
  return a % b < 0n ? quotient - 1n : quotient;
}

const ceilDiv = (a, b) => -floorDiv(-a, b);

// ---------------------------------------------------------------------------- random numbers

const u64 = (value) => BigInt.asUintN(64, value);
const toHex = (value) => value.toString(16).padStart(16, '0');

function parseHex(text) {
  if (!/^[0-9a-f]{16}$/i.test(text)) throw new Error(`not 16 hex digits: ${text}`);
  return BigInt(`0x${text}`);
}

class SplitMix64 {
  /** @param {string} seed  16 hex digits */
  constructor(seed) {
    this.state = parseHex(seed);
  }

  next() {
    this.state = u64(this.state + 0x9e3779b97f4a7c15n);
    let z = this.state;
    z = u64((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
    z = u64((z ^ (z >> 27n)) * 0x94d049bb133111ebn);
    return z ^ (z >> 31n);
  }

  /** A number from 0 to bound - 1; always takes exactly one number from the stream. */
  below(bound) {
    return (this.next() * bound) >> 64n;
  }

  /** A number from low to high, both included. */
  between(low, high) {
    return low + this.below(high - low + 1n);
  }

  /** Shuffles in place. */
  shuffle(items) {
    for (let i = items.length - 1; i >= 1; i -= 1) {
      const j = Number(this.below(BigInt(i + 1)));
      [items[i], items[j]] = [items[j], items[i]];
    }
    return items;
  }
}

// ---------------------------------------------------------------------------- times

const MICROSECONDS_A_SECOND = 1_000_000n;
const TIME = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(Z|[+-]\d\d:\d\d)$/;

/** Microseconds since 1970 of a time with its offset, or null if the text is not a time. */
function parseTime(text) {
  const match = typeof text === 'string' ? TIME.exec(text) : null;
  if (match === null) return null;
  const [, seconds, fraction = '', zone] = match;
  const date = new Date(`${seconds}Z`);
  // Date rolls 30 February over into March; formatting the result again detects that.
  if (Number.isNaN(date.getTime()) || date.toISOString().slice(0, 19) !== seconds) return null;
  const moment = new Date(`${seconds}${zone}`);
  return BigInt(moment.getTime()) * 1000n + BigInt(fraction.padEnd(6, '0'));
}

/** RFC 3339 in UTC with Z, and six digits of fraction unless it is zero. */
function formatTime(microseconds) {
  const seconds = floorDiv(microseconds, MICROSECONDS_A_SECOND);
  const fraction = microseconds - seconds * MICROSECONDS_A_SECOND;
  const text = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  return fraction === 0n ? `${text}Z` : `${text}.${fraction.toString().padStart(6, '0')}Z`;
}

// ---------------------------------------------------------------------------- trading time

/** The part of each session from t0 on: where it begins, where it ends, and its length. */
function tradingParts({ sessions, t0 }) {
  return sessions.map(([opens, closes]) => {
    const begins = max(opens, t0);
    return { begins, closes, length: closes - begins };
  });
}

/** D of the page: the duration; if the sessions are not longer, their length less 1 s. */
function tradingDuration(input, duration) {
  if (input.sessions.length === 0) return duration;
  const available = sum(tradingParts(input).map(({ length }) => length));
  return duration < available ? duration : available - MICROSECONDS_A_SECOND;
}

/** The time on the clock of an offset in trading time. */
function clockTime(input, offset) {
  if (input.sessions.length === 0) return input.t0 + offset;
  let rest = offset;
  for (const { begins, length } of tradingParts(input)) {
    if (rest < length) return begins + rest;
    rest -= length;
  }
  throw new Error('the sessions end before this offset');
}

/** The offset in trading time of a time on the clock. */
function tradingOffset(input, time) {
  if (input.sessions.length === 0 || time < input.t0) return time - input.t0;
  let offset = 0n;
  for (const { begins, closes, length } of tradingParts(input)) {
    if (time < closes) return offset + max(time, begins) - begins;
    offset += length;
  }
  return offset + time - input.sessions.at(-1)[1];
}

// ---------------------------------------------------------------------------- the splitter

/** The terms of a case in the letters of the page. */
function readTerms(terms) {
  const t0 = parseTime(terms.starts_at);
  if (t0 === null) throw new Error(`starts_at is not a UTC time: ${terms.starts_at}`);
  if (typeof terms.randomize !== 'boolean') throw new Error('randomize is not true or false');
  const sessions = (terms.sessions ?? []).map((session) => session.map(parseTime));
  if (sessions.flat().includes(null)) throw new Error('a session is not a pair of times');
  const duration = BigInt(terms.duration_minutes) * 60n * MICROSECONDS_A_SECOND;
  return {
    T: BigInt(terms.total_quantity),
    n: BigInt(terms.num_splits),
    D: tradingDuration({ sessions, t0 }, duration),
    randomize: terms.randomize,
    seed: terms.seed,
    t0,
    sessions,
  };
}

/** The least and the most that a slice may hold. */
function quantityBounds({ T, n }) {
  return { least: max(1n, floorDiv(4n * T, 5n * n)), most: ceilDiv(6n * T, 5n * n) };
}

function evenQuantities({ T, n }) {
  return range(Number(n)).map(BigInt).map((i) => floorDiv((i + 1n) * T, n) - floorDiv(i * T, n));
}

function evenOffsets({ n, D }) {
  return range(Number(n)).map(BigInt).map((i) => floorDiv(i * D, n - 1n));
}

/** Step 1: each position in turn redistributes shares with the next one, and the last with the first. */
function varyQuantities(quantities, input, stream) {
  const { least, most } = quantityBounds(input);
  for (const i of range(quantities.length)) {
    const j = (i + 1) % quantities.length;
    const both = quantities[i] + quantities[j];
    quantities[i] = stream.between(max(least, both - most), min(most, both - least));
    quantities[j] = both - quantities[i];
  }
}

/** Step 3: every time but the first and the last moves by up to 0.3 of the even distance. */
function varyOffsets(offsets, { n, D }, stream) {
  for (let i = 1n; i <= n - 2n; i += 1n) {
    const low = ceilDiv((10n * i - 3n) * D, 10n * (n - 1n));
    const high = floorDiv((10n * i + 3n) * D, 10n * (n - 1n));
    offsets[Number(i)] = stream.between(low, high);
  }
}

/**
 * @param {Terms} terms
 * @returns {Schedule}
 */
function derive(terms) {
  const input = readTerms(terms);
  const quantities = evenQuantities(input);
  const offsets = evenOffsets(input);
  if (input.randomize) {
    const stream = new SplitMix64(input.seed);
    varyQuantities(quantities, input, stream);
    stream.shuffle(quantities);
    varyOffsets(offsets, input, stream);
  }
  const scheduledAt = offsets.map((offset) => formatTime(clockTime(input, offset)));
  return { quantities, offsets, scheduledAt };
}

// ---------------------------------------------------------------------------- order requests

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const isWholeWithin = (low, high) => (value) =>
  Number.isInteger(value) && value >= low && value <= high;

function isOrderKey(value) {
  if (typeof value !== 'string' || /[\u0000-\u001f\u007f-\u009f]/.test(value)) return false;
  const blank = '[\\p{Zs}\\p{Zl}\\p{Zp}\\p{Cc}\\p{Cf}]';
  if (new RegExp(`^${blank}|${blank}$`, 'u').test(value)) return false;
  if (value !== value.normalize('NFC')) return false;
  const characters = [...value].length; // code points
  return characters >= 1 && characters <= 255;
}

function isInstrument(value) {
  return typeof value === 'string' && value.length <= 50 && /^(NSE|BSE):[A-Z0-9&-]+$/.test(value);
}

/** null, or an RFC 3339 time with an offset, in the years 1 to 9999 of UTC. */
function isStart(value) {
  if (value === null) return true;
  const time = parseTime(value);
  return time !== null && time >= FIRST_TIME && time < END_OF_TIME;
}

const FIRST_TIME = BigInt(Date.parse('0001-01-01T00:00:00Z')) * 1000n;
const END_OF_TIME = BigInt(Date.parse('9999-12-31T23:59:59Z')) * 1000n + MICROSECONDS_A_SECOND;

const ORDER_FIELDS = {
  order_unique_key: { code: 'INVALID_REQUEST', holds: isOrderKey },
  instrument: { code: 'INVALID_INSTRUMENT', holds: isInstrument },
  side: { code: 'INVALID_REQUEST', holds: (value) => value === 'BUY' || value === 'SELL' },
  total_quantity: { code: 'INVALID_QUANTITY', holds: isWholeWithin(1, 1_000_000_000) },
  split_config: { code: 'INVALID_SPLIT_CONFIG', holds: isObject },
};

const SPLIT_FIELDS = {
  num_splits: { code: 'INVALID_SPLIT_CONFIG', holds: isWholeWithin(2, 100) },
  duration_minutes: { code: 'INVALID_SPLIT_CONFIG', holds: isWholeWithin(1, 1440) },
  randomize: {
    code: 'INVALID_SPLIT_CONFIG',
    holds: (value) => typeof value === 'boolean',
    optional: true,
  },
  start_at: { code: 'INVALID_SPLIT_CONFIG', holds: isStart, optional: true },
  session_policy: {
    code: 'INVALID_SPLIT_CONFIG',
    holds: (value) => value === null || ['NONE', 'REJECT', 'CLIP', 'ROLL'].includes(value),
    optional: true,
  },
};

/** The refusals of one object's fields by themselves; prefix is the path before their names. */
function judgeFields(object, fields, prefix) {
  const names = Object.keys(fields);
  const isThere = (name) => Object.hasOwn(object, name);
  const refuse = (code, name) => ({ code, field: prefix + name });
  return {
    missing: names
      .filter((name) => !isThere(name) && !fields[name].optional)
      .map((name) => refuse('INVALID_REQUEST', name)),
    unknown: Object.keys(object)
      .filter((name) => !Object.hasOwn(fields, name))
      .map((name) => refuse('INVALID_REQUEST', name)),
    wrong: names
      .filter((name) => isThere(name) && !fields[name].holds(object[name]))
      .map((name) => refuse(fields[name].code, name)),
  };
}

/** Every refusal of an order request, in the order of the table; none if it is accepted. */
function orderRefusals(order) {
  const judged = [judgeFields(order, ORDER_FIELDS, '')];
  if (isObject(order.split_config)) {
    judged.push(judgeFields(order.split_config, SPLIT_FIELDS, 'split_config.'));
  }
  const refusals = ['missing', 'unknown', 'wrong'].flatMap((kind) =>
    judged.flatMap((judgement) => judgement[kind]),
  );
  if (refusals.length === 0 && order.total_quantity < order.split_config.num_splits) {
    refusals.push({ code: 'INVALID_QUANTITY', field: 'total_quantity' });
  }
  return refusals;
}

// ---------------------------------------------------------------------------- rules of a schedule

/** Every rule but the first, in the order of the page's table, as a test of well-formed slices. */
const RULES = {
  slices_are_numbered: ({ numbers }, { n }) =>
    BigInt(numbers.length) === n && numbers.every((number, i) => number === BigInt(i + 1)),

  quantities_sum_to_total: ({ quantities }, { T }) => sum(quantities) === T,

  quantities_stay_near_average: ({ quantities }, input) => {
    const { least, most } = quantityBounds(input);
    return quantities.every((quantity) => least <= quantity && quantity <= most);
  },

  even_quantities_are_even: ({ quantities }, { T, n, randomize }) => {
    if (randomize || quantities.length === 0) return true;
    if (quantities.reduce(max) - quantities.reduce(min) > 1n) return false;
    return quantities.every((_, i) => {
      const together = sum(quantities.slice(0, i + 1));
      return abs(together * n - BigInt(i + 1) * T) < n;
    });
  },

  window_is_filled: ({ offsets }, { D }) =>
    offsets.length === 0 || (offsets[0] === 0n && offsets.at(-1) === D),

  times_stay_near_even: ({ offsets }, { n, D, randomize }) =>
    offsets.every((offset, i) => {
      const distance = abs(offset * (n - 1n) - BigInt(i) * D);
      return randomize ? 10n * distance <= 3n * D : distance < n - 1n;
    }),

  times_increase_in_window: ({ offsets }, { D }) =>
    offsets.every(
      (offset, i) => offset >= 0n && offset <= D && (i === 0 || offset > offsets[i - 1]),
    ),

  slices_are_in_sessions: ({ times }, { sessions }) =>
    sessions.length === 0 ||
    times.every((time) => sessions.some(([opens, closes]) => opens <= time && time < closes)),
};

/** The slices in big integers, or null if a number is not whole or a time cannot be parsed. */
function readSlices({ sequence_numbers, quantities, scheduled_at }, input) {
  const lengths = new Set([sequence_numbers, quantities, scheduled_at].map(({ length }) => length));
  if (lengths.size !== 1) throw new Error('the lists of slices differ in length');
  const times = scheduled_at.map(parseTime);
  const areWhole = [...sequence_numbers, ...quantities].every(Number.isInteger);
  if (!areWhole || times.includes(null)) return null;
  return {
    areUtc: scheduled_at.every((text) => text.endsWith('Z')),
    numbers: sequence_numbers.map(BigInt),
    quantities: quantities.map(BigInt),
    times,
    offsets: times.map((time) => tradingOffset(input, time)),
  };
}

function brokenRules(slices, input) {
  if (slices === null) return ['slices_are_well_formed'];
  const malformed = slices.areUtc ? [] : ['slices_are_well_formed'];
  return [...malformed, ...Object.keys(RULES).filter((name) => !RULES[name](slices, input))];
}

// ---------------------------------------------------------------------------- the file's cases

const show = (value) => (value === undefined ? 'nothing' : JSON.stringify(value));

/** What differs between a computed value and the file's, as a list of at most one text. */
function difference(name, computed, stated) {
  if (computed === stated) return [];
  return [`${name}: computed ${show(computed)}, file has ${show(stated)}`];
}

/** The same for lists: their lengths, or the first place where they differ. */
function listDifference(name, computed, stated) {
  if (!Array.isArray(stated)) return [`${name}: the file has no list`];
  if (computed.length !== stated.length) {
    return difference(`number of ${name}`, computed.length, stated.length);
  }
  const place = computed.findIndex((value, i) => value !== stated[i]);
  return place < 0 ? [] : difference(`${name}[${place}]`, computed[place], stated[place]);
}

function checkRandom({ seed, next, below, shuffled_0_to_9: shuffled }) {
  if (!(below?.length > 0)) return ['below: the file has no pairs'];
  const first = new SplitMix64(seed);
  const second = new SplitMix64(seed);
  const third = new SplitMix64(seed);
  const bounds = below.map(([bound]) => BigInt(bound));
  return [
    ...listDifference('next', range(4).map(() => toHex(first.next())), next),
    ...listDifference(
      'below',
      bounds.map((bound) => Number(second.below(bound))),
      below.map(([, result]) => result),
    ),
    ...listDifference('shuffled_0_to_9', third.shuffle(range(10)), shuffled),
  ];
}

function checkSchedule(stated) {
  const { quantities, offsets, scheduledAt } = derive(stated);
  return [
    ...listDifference('quantities', quantities.map(Number), stated.quantities),
    ...listDifference('offsets_microseconds', offsets.map(Number), stated.offsets_microseconds),
    ...listDifference('scheduled_at', scheduledAt, stated.scheduled_at),
  ];
}

function checkAcceptedOrder({ order, randomize, start_at: start, session_policy: policy }) {
  const refusals = orderRefusals(order);
  if (refusals.length > 0) return [`refusals: computed ${show(refusals)}, file has none`];
  const asked = order.split_config;
  const startAt = asked.start_at == null ? null : formatTime(parseTime(asked.start_at));
  return [
    ...difference('randomize', asked.randomize ?? true, randomize),
    ...difference('start_at', startAt, start ?? null),
    ...difference('session_policy', asked.session_policy ?? null, policy ?? null),
  ];
}

/** An order may break one rule for two fields, as an empty split_config does: the file names the first. */
function checkInvalidOrder({ order, code, field }) {
  const refusals = orderRefusals(order);
  if (refusals.length === 0) return ['refusals: computed none'];
  if (refusals.some((refusal) => refusal.code !== refusals[0].code)) {
    return [`refusals: computed ${show(refusals)}, the order must break exactly one rule`];
  }
  return [
    ...difference('code', refusals[0].code, code),
    ...difference('field', refusals[0].field, field),
  ];
}

function checkBrokenSchedule(stated) {
  const input = readTerms(stated);
  const slices = readSlices(stated, input);
  const names = (rules) => rules.join(' ');
  const differences = difference(
    'broken_rules',
    names(brokenRules(slices, input)),
    names(stated.broken_rules),
  );
  if (slices === null) return differences; // no numbers, no offsets to compare
  const offsets = slices.offsets.map(Number);
  return [
    ...differences,
    ...listDifference('offsets_microseconds', offsets, stated.offsets_microseconds),
  ];
}

const CHECKS = {
  random: checkRandom,
  schedules: checkSchedule,
  accepted_orders: checkAcceptedOrder,
  invalid_orders: checkInvalidOrder,
  broken_schedules: checkBrokenSchedule,
};

/** What is wrong with a case. A case that cannot be read fails. */
function differencesOf(part, stated) {
  try {
    return CHECKS[part](stated);
  } catch (error) {
    return [`cannot be read: ${error.message}`];
  }
}

/** Checks one part, prints its failing cases, and counts. */
function checkPart(part, cases) {
  let passed = 0;
  cases.forEach((stated, index) => {
    const differences = differencesOf(part, stated);
    if (differences.length === 0) passed += 1;
    else console.log(`${part}[${index}]: ${differences.join('; ')}`);
  });
  return { part, passed, total: cases.length };
}

/** @returns {boolean} whether the whole file passes */
function checkFile(path) {
  const file = JSON.parse(readFileSync(path, 'utf8'));
  const versions = [
    ...difference('format', 1, file.format),
    ...difference('splitter_version', file.splitter_version === 2 ? 2 : 1, file.splitter_version),
  ];
  versions.forEach((text) => console.log(text));
  const counts = PARTS.map((part) => checkPart(part, Array.isArray(file[part]) ? file[part] : []));
  console.log(counts.map(({ part, passed, total }) => `${part} ${passed}/${total}`).join(', '));
  const areWhole = counts.every(({ passed, total }) => total > 0 && passed === total);
  return versions.length === 0 && areWhole;
}

// ---------------------------------------------------------------------------- the command

/** Prints the schedule of each line of terms on standard input. */
async function deriveLines() {
  for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    if (line.trim() === '') continue;
    const { quantities, scheduledAt } = derive(JSON.parse(line));
    console.log(JSON.stringify({ quantities: quantities.map(Number), scheduled_at: scheduledAt }));
  }
}

async function main([argument]) {
  if (argument === undefined) throw new Error('usage: check_vectors.mjs FILE | --derive');
  if (argument === '--derive') await deriveLines();
  else if (!checkFile(argument)) process.exitCode = 1;
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`check_vectors: ${error.message}`);
  process.exitCode = 2;
});
