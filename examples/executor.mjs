// Executes each released slice exactly once: a complete reader of Pulse's event stream.
//
// Usage: node executor.mjs URL STORE [PARTITION], with the service token, if any, in PULSE_SERVICE_TOKEN:
//
//     node executor.mjs http://127.0.0.1:8000/pulse executor.jsonl
//     node executor.mjs http://127.0.0.1:8000/pulse executor-0.jsonl 0/4
//
// Each line of the store is one JSON record with the work and the position, written in one call and flushed
// to the disk. After a crash the last record may be torn; the next start removes it. So kill -9 at any moment
// neither loses nor repeats a slice. Needs only Node 20.

import { fdatasyncSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";

const SILENT_MILLISECONDS = 45_000; // three heartbeats: the connection is dead
const MAX_PAUSE_MILLISECONDS = 10_000;
const ANOTHER_LOG = 3; // the exit code after the log was replaced: a person must decide what to do

class Store {
  constructor(path) {
    this.file = openSync(path, "a+");
    this.logId = null;
    this.position = 0;
    const content = readFileSync(path);
    const end = content.lastIndexOf(0x0a) + 1; // after the last complete line
    for (const line of content.subarray(0, end).toString().split("\n")) {
      if (line) {
        const record = JSON.parse(line);
        this.logId = record.log_id;
        this.position = record.position;
      }
    }
    if (end < content.length) {
      ftruncateSync(this.file, end); // a torn record: its event is sent again
      fdatasyncSync(this.file);
    }
  }

  // Append work and position as one record.
  append(logId, position, executions = []) {
    const record = Buffer.from(`${JSON.stringify({ log_id: logId, position, executions })}\n`);
    if (writeSync(this.file, record) !== record.length) {
      stop("the disk is full", 1); // the record is torn, and is removed at the next start
    }
    fdatasyncSync(this.file);
    this.logId = logId;
    this.position = position;
  }
}

// The work of one event. Here it is a part of the record. Another process sends it to the exchange, with
// order_id and sequence_number as the client order id.
function execute(event) {
  const { instrument, side, slices } = event.data;
  return slices.map(({ sequence_number, quantity, scheduled_at }) => ({
    order_id: event.order_id,
    sequence_number,
    instrument,
    side,
    quantity,
    scheduled_at,
  }));
}

function handle(store, kind, position, data) {
  if (kind !== "" && data.log_id !== undefined && store.logId !== null && store.logId !== data.log_id) {
    stop(`the log is ${data.log_id}, this store belongs to ${store.logId}`);
  }
  if (kind === "") {
    store.append(store.logId, position, execute(data));
  } else if (kind === "log" && store.logId === null) {
    store.append(data.log_id, position);
  } else if (kind === "heartbeat" && position > store.position) {
    store.append(store.logId, position);
  } else if (kind === "end" && data.reason === "LOG_CHANGED") {
    stop(data.message);
  }
}

// The messages of the stream: kind (empty for an event of the log), id, data.
async function* messages(chunks) {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of chunks) {
    text += decoder.decode(chunk, { stream: true });
    const parts = text.split("\n\n");
    text = parts.pop(); // incomplete
    for (const part of parts) {
      const fields = Object.fromEntries(part.split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
      if (fields.data !== undefined) {
        yield [fields.event ?? "", Number(fields.id), JSON.parse(fields.data)];
      }
    }
  }
}

// Read the stream until it ends; returns the milliseconds to wait before the next attempt.
async function follow(url, store, partition) {
  const query = new URLSearchParams({ type: "SlicesReleased", ...(partition && { partition }) });
  const headers = { "Last-Event-ID": String(store.position) };
  if (process.env.PULSE_SERVICE_TOKEN) {
    headers.Authorization = `Bearer ${process.env.PULSE_SERVICE_TOKEN}`;
  }
  const silent = new AbortController();
  const timer = setTimeout(() => silent.abort(), SILENT_MILLISECONDS);
  try {
    const response = await fetch(`${url}/internal/events/stream?${query}`, { headers, signal: silent.signal });
    if (response.status === 429 || response.status >= 500) {
      return 1000 * Number(response.headers.get("Retry-After"));
    }
    if (response.status !== 200) {
      const refused = await response.text();
      stop(refused, refused.includes("POSITION_BEYOND_LOG") ? ANOTHER_LOG : 1);
    }
    for await (const [kind, position, data] of messages(response.body)) {
      timer.refresh();
      handle(store, kind, position, data);
    }
  } finally {
    clearTimeout(timer);
  }
  return 0;
}

function stop(reason, code = ANOTHER_LOG) {
  console.error(`executor: ${reason}`);
  process.exit(code);
}

const [url, path, partition] = process.argv.slice(2);
const store = new Store(path);
let pause = 100;
for (;;) {
  let wait = 0;
  try {
    wait = await follow(url, store, partition);
    pause = 100;
  } catch (error) {
    console.error(`executor: ${error.cause ?? error}; reconnecting`);
    pause = Math.min(2 * pause, MAX_PAUSE_MILLISECONDS);
  }
  await new Promise((resolve) => setTimeout(resolve, Math.max(pause, wait)));
}
