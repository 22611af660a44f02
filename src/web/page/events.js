// Server-sent events by `fetch`, because an `EventSource` cannot send a token.

/** The pause before a lost stream is opened again. It doubles while streams are lost soon. */
const PAUSE_MS_MIN = 1000;
const PAUSE_MS_MAX = 10_000;
/** The statuses after which a stream is not opened again, because that would fail too. */
const FINAL = [401, 403, 404];

/** The parser of one stream of events, by the HTML standard. Its text comes in pieces that may end anywhere. */
export class Parser {
  /** The id of the last event, also of one without data; empty without one. */
  last;
  #rest = '';
  #endsInCr = false;
  #id;
  #name = '';
  #data = [];

  constructor(last) {
    [this.last, this.#id] = [last, last];
  }

  /** Takes the next piece. Returns the events that are complete with it, as `{ name, data }`. */
  take(text) {
    if (text === '') return [];
    // A line ends in CR, LF or CR LF. An LF may begin this piece after a CR at the end of the last one.
    const next = this.#endsInCr && text.startsWith('\n') ? text.slice(1) : text;
    this.#endsInCr = text.endsWith('\r');
    const lines = (this.#rest + next).split(/\r\n|\n|\r/);
    this.#rest = lines.pop();
    const events = [];
    for (const line of lines) {
      if (line === '') events.push(...this.#end());
      else this.#field(line);
    }
    return events;
  }

  /** Takes a line `name: value`, whose space is optional. A comment is a line with an empty name. */
  #field(line) {
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'event') this.#name = value;
    if (name === 'data') this.#data.push(value);
    if (name === 'id' && !value.includes('\0')) this.#id = value;
  }

  /** Takes an empty line, which ends an event. Without data it is none, but its id counts. */
  #end() {
    const event = { name: this.#name || 'message', data: this.#data.join('\n') };
    const isEvent = this.#data.length > 0;
    [this.last, this.#name, this.#data] = [this.#id, '', []];
    return isEvent ? [event] : [];
  }
}

/** A stream of events that is opened again when it is lost, as that of an `EventSource`. */
export class Events {
  isOpen = false;
  #last = '';
  #stop = new AbortController();
  #open;
  #on;

  /**
   * `open(last, signal)` resolves to the stream of bytes after the event with the id `last`, or to null if there are
   * no more events. `on` has callbacks: `opened()` when a stream is open, `event(name, data)` for each event,
   * `lost()` when the stream is lost and will be opened again, and `ended(error)` when it will not be; the error is
   * null if there are no more events.
   */
  constructor(open, on) {
    [this.#open, this.#on] = [open, on];
    this.#follow();
  }

  /** Ends the stream. No callback is called any more. */
  close() {
    this.isOpen = false;
    this.#stop.abort();
  }

  async #follow() {
    const { signal } = this.#stop;
    let pause = PAUSE_MS_MIN;
    while (!signal.aborted) {
      const begun = performance.now();
      const { isOver, error } = await this.#once(signal);
      if (signal.aborted) return;
      this.isOpen = false;
      if (isOver) {
        this.#on.ended(error);
        return;
      }
      this.#on.lost();
      if (performance.now() - begun > PAUSE_MS_MAX) pause = PAUSE_MS_MIN;
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(2 * pause, PAUSE_MS_MAX);
    }
  }

  /** Follows one stream to its end. Resolves to how it has ended. */
  async #once(signal) {
    try {
      const stream = await this.#open(this.#last, signal);
      if (stream === null || signal.aborted) return { isOver: true, error: null };
      this.isOpen = true;
      this.#on.opened();
      await this.#read(stream, signal);
      return { isOver: false, error: null };
    } catch (error) {
      return { isOver: FINAL.includes(error.status), error };
    }
  }

  async #read(stream, signal) {
    const parser = new Parser(this.#last);
    const decoder = new TextDecoder();
    const reader = stream.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const events = parser.take(decoder.decode(part.value, { stream: true }));
      this.#last = parser.last;
      for (const { name, data } of events) if (!signal.aborted) this.#tell(name, data);
    }
  }

  /** Passes an event on. A fault of its callback is not one of the stream. */
  #tell(name, data) {
    try {
      this.#on.event(name, data);
    } catch (error) {
      reportError(error);
    }
  }
}
