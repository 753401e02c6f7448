// The network between simulated processes, at the level of services: messages are bytes, take their
// time, and may not arrive. A connection that breaks ends every call on it: the caller learns it as
// E_CHANNEL; the other side at the same time, later, or never (a half-open connection).
//
// What the sealed channel makes impossible in production is possible here all the same where the
// handlers promise to bear it: a request may arrive twice, the second time much later.

import {
  type CallContext,
  type Caller,
  type CallOptions,
  type Handlers,
  type MethodDefinition,
  type ReplicationService,
  replicationService,
  type ServiceClient,
} from '../../shared/channel/index.js';
import { DrError } from '../../shared/errors.js';
import type { ReceiverConnection } from '../../source-agent/receiver-link.js';
import { Pipe } from './pipe.js';
import { never, type Scheduler, type SimulatedProcess } from './scheduler.js';

export interface Weather {
  readonly latencyMs: number;
  /** Of a call or a connection attempt: it breaks off before it arrives. */
  readonly lostShare: number;
  /** Of a call: it is done, and its answer breaks off. */
  readonly answerLostShare: number;
  /** Of a call without a stream: it arrives a second time later; of a lost one: it arrives after all. */
  readonly repeatedShare: number;
  /** Of a message of a stream: the connection breaks. */
  readonly cutShare: number;
  readonly isPartitioned: boolean;
}

export const FAIR: Weather = {
  latencyMs: 5,
  lostShare: 0,
  answerLostShare: 0,
  repeatedShare: 0,
  cutShare: 0,
  isPartitioned: false,
};

/** Messages of a stream on their way. */
const WINDOW = 2;
const LATE_WITHIN_MS = 60_000;
/** A peer that vanished without a word is noticed within so long. */
const NOTICED_WITHIN_MS = 40_000;

type Loose = (argument: unknown, context: CallContext) => unknown;

/** What was asked and what was answered, when it leaves the handler. */
export interface Exchange {
  /** The same for all messages of one call. */
  readonly call: object;
  /** The request arrived before, or was given up by its caller. */
  readonly isRepeated: boolean;
  readonly method: string;
  readonly request: unknown;
  readonly response: unknown;
}

/** A receiver as the network knows it. */
export interface Endpoint {
  readonly name: string;
  /** undefined while none runs. */
  readonly server: () =>
    { process: SimulatedProcess; handlers: Handlers<ReplicationService> } | undefined;
  /** Also for each message of a stream of requests. */
  readonly onRequest: (request: Omit<Exchange, 'response'>) => void;
  /** Also for each message of a stream of answers. */
  readonly onAnswer: (exchange: Exchange) => void;
  /** An error of a handler that is no DrError. */
  readonly onBug: (error: unknown) => void;
  weather: Weather;
}

function broken(why: string): DrError {
  return new DrError('E_CHANNEL', `the connection broke: ${why}`);
}

export class Network {
  readonly #scheduler: Scheduler;
  #connections: Connection[] = [];

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  /** Breaks every connection that there is. */
  cut(): void {
    for (const connection of this.#connections.splice(0)) void connection.close();
  }

  /** @throws DrError E_SOURCE_UNREACHABLE */
  async connect(
    client: SimulatedProcess,
    endpoint: Endpoint,
    caller: Caller,
  ): Promise<ReceiverConnection> {
    await client.gate(this.#scheduler.delay(endpoint.weather.latencyMs));
    const { isPartitioned, lostShare } = endpoint.weather;
    const server = endpoint.server();
    if (isPartitioned || server === undefined || this.#scheduler.random.chance(lostShare)) {
      throw new DrError('E_SOURCE_UNREACHABLE', `${endpoint.name} does not answer`);
    }
    const connection = new Connection(this.#scheduler, client, server, endpoint, caller);
    this.#connections = this.#connections.filter(({ isBroken }) => !isBroken);
    this.#connections.push(connection);
    return connection;
  }
}

class Connection implements ReceiverConnection {
  readonly client: ServiceClient<ReplicationService>;
  readonly #scheduler: Scheduler;
  readonly #process: SimulatedProcess;
  readonly #server: { process: SimulatedProcess; handlers: Handlers<ReplicationService> };
  readonly #endpoint: Endpoint;
  readonly #caller: Caller;
  readonly #calls = new Set<(why: string) => void>();
  #isBroken = false;

  constructor(
    scheduler: Scheduler,
    process: SimulatedProcess,
    server: { process: SimulatedProcess; handlers: Handlers<ReplicationService> },
    endpoint: Endpoint,
    caller: Caller,
  ) {
    this.#scheduler = scheduler;
    this.#process = process;
    this.#server = server;
    this.#endpoint = endpoint;
    this.#caller = caller;
    const calls = Object.entries(replicationService).map(([name, method]) => {
      const handler = (server.handlers as Readonly<Record<string, unknown>>)[name] as Loose;
      return [
        name,
        (argument: unknown, options: CallOptions = {}) =>
          method.responseStream
            ? this.#stream(name, method, handler, argument, options)
            : method.requestStream
              ? this.#upload(name, method, handler, argument, options)
              : this.#unary(name, method, handler, argument, options),
      ];
    });
    this.client = Object.fromEntries(calls) as ServiceClient<ReplicationService>;
    server.process.onDeath(() => {
      this.#notice('the peer is gone');
    });
    process.onDeath(() => {
      this.#notice('the peer is gone');
    });
  }

  get isBroken(): boolean {
    return this.#isBroken;
  }

  close(): Promise<void> {
    this.#break('it was closed');
    return Promise.resolve();
  }

  /** Sooner or later whoever lives learns that the other one died. */
  #notice(why: string): void {
    const mostMs = this.#scheduler.random.chance(0.5) ? 20 : NOTICED_WITHIN_MS;
    this.#scheduler.after(this.#scheduler.random.int(mostMs), () => {
      this.#break(why);
    });
  }

  #break(why: string): void {
    if (this.#isBroken) return;
    this.#isBroken = true;
    for (const end of this.#calls) end(why);
    this.#calls.clear();
  }

  get #weather(): Weather {
    return this.#endpoint.weather;
  }

  #chance(share: number): boolean {
    return this.#scheduler.random.chance(share);
  }

  #latency(): Promise<void> {
    return this.#scheduler.delay(this.#weather.latencyMs);
  }

  async #unary(
    name: string,
    method: MethodDefinition,
    handler: Loose,
    argument: unknown,
    { signal }: CallOptions,
  ): Promise<unknown> {
    if (this.#isBroken) throw broken('it broke before');
    const bytes = Buffer.from(method.requestSerialize(argument as never));
    let end: (why: string) => void = () => undefined;
    const aborts = new AbortController();
    const ended = new Promise<never>((_resolve, reject) => {
      end = (why) => {
        reject(broken(why));
        this.#scheduler.after(this.#scheduler.random.int(NOTICED_WITHIN_MS), () => {
          aborts.abort(broken(why));
        });
      };
    });
    ended.catch(() => undefined);
    this.#calls.add(end);
    const cancel = (): void => {
      end('the call was cancelled');
    };
    signal?.addEventListener('abort', cancel, { once: true });
    if (signal?.aborted === true) cancel();
    try {
      return await this.#process.gate(
        Promise.race([ended, this.#ask(name, method, handler, bytes, aborts.signal)]),
      );
    } finally {
      this.#calls.delete(end);
      signal?.removeEventListener('abort', cancel);
    }
  }

  async #ask(
    name: string,
    method: MethodDefinition,
    handler: Loose,
    bytes: Buffer,
    signal: AbortSignal,
  ): Promise<unknown> {
    const { lostShare, answerLostShare, repeatedShare, isPartitioned } = this.#weather;
    await this.#latency();
    const arriveLate = (): void => {
      this.#scheduler.after(this.#scheduler.random.int(LATE_WITHIN_MS), () => {
        this.#scheduler.note(`${this.#process.name}: ${name} arrives late`);
        this.#handle(name, method, handler, bytes, signal, true).catch(() => undefined);
      });
    };
    if (this.#isBroken || isPartitioned || this.#chance(lostShare)) {
      this.#scheduler.note(`${this.#process.name}: ${name} is lost`);
      // or is overtaken by whatever comes next
      if (this.#chance(repeatedShare)) arriveLate();
      this.#break('the request was lost');
      return never();
    }
    if (this.#chance(repeatedShare)) arriveLate();
    let answer: Buffer | undefined;
    let failure: unknown;
    try {
      answer = await this.#handle(name, method, handler, bytes, signal);
    } catch (error) {
      failure = error;
    }
    await this.#latency();
    if (this.#isGone() || this.#chance(answerLostShare)) {
      this.#scheduler.note(`${this.#process.name}: the answer to ${name} is lost`);
      this.#break('the answer was lost');
      return never();
    }
    if (answer === undefined) throw failure;
    return method.responseDeserialize(answer);
  }

  /** Runs the handler in the server's process. */
  async #handle(
    name: string,
    method: MethodDefinition,
    handler: Loose,
    bytes: Buffer,
    signal: AbortSignal,
    isRepeated = false,
  ): Promise<Buffer> {
    const { process } = this.#server;
    if (process.isDead) return never();
    const request = method.requestDeserialize(Buffer.from(bytes));
    const asked = { call: {}, isRepeated, method: name, request };
    this.#endpoint.onRequest(asked);
    const context: CallContext = { caller: this.#caller, signal };
    try {
      const response = await process.gate(Promise.resolve().then(() => handler(request, context)));
      this.#endpoint.onAnswer({ ...asked, response });
      this.#scheduler.note(`${this.#endpoint.name}: answers ${name}`);
      return Buffer.from(method.responseSerialize(response as never));
    } catch (error) {
      throw this.#translated(name, error);
    }
  }

  #translated(name: string, error: unknown): unknown {
    if (!(error instanceof DrError)) {
      this.#endpoint.onBug(error);
      return broken('the receiver has a bug');
    }
    this.#scheduler.note(`${this.#endpoint.name}: refuses ${name} with ${error.code}`);
    const { code, message, context, done, hint } = error;
    return new DrError(code, message, { context, done, hint });
  }

  /** A stream of requests with one answer. */
  async #upload(
    name: string,
    method: MethodDefinition,
    handler: Loose,
    argument: unknown,
    options: CallOptions,
  ): Promise<unknown> {
    const answers = this.#stream(
      name,
      method,
      (request, context) => single(handler(request, context)),
      argument,
      options,
    );
    const first = await answers.next();
    await answers.return(undefined);
    if (first.done === true) throw broken('there was no answer');
    return first.value;
  }

  async *#stream(
    name: string,
    method: MethodDefinition,
    handler: Loose,
    argument: unknown,
    { signal }: CallOptions,
  ): AsyncGenerator {
    const scheduler = this.#scheduler;
    const up = new Pipe(scheduler, this.#server.process, WINDOW);
    const down = new Pipe(scheduler, this.#process, WINDOW);
    const aborts = new AbortController();
    const end = (why: string): void => {
      down.fail(broken(why));
      // the other side may sit there for long, waiting for a message
      const mostMs = this.#chance(0.6) ? 20 : NOTICED_WITHIN_MS;
      scheduler.after(scheduler.random.int(mostMs), () => {
        up.fail(broken(why));
        aborts.abort(broken(why));
      });
    };
    this.#calls.add(end);
    const cancel = (): void => {
      end('the call was cancelled');
    };
    signal?.addEventListener('abort', cancel, { once: true });
    if (signal?.aborted === true || this.#isBroken) end('it broke before');
    const server = (): void => {
      void this.#serveStream(name, method, handler, up, down, aborts.signal, argument);
    };
    scheduler.after(scheduler.random.int(this.#weather.latencyMs + 1), server);
    if (method.requestStream) void this.#pump(argument as AsyncIterable<unknown>, method, up, down);
    try {
      for (;;) {
        const next = await down.next();
        if (next.done) return;
        yield method.responseDeserialize(next.value);
      }
    } finally {
      this.#calls.delete(end);
      signal?.removeEventListener('abort', cancel);
      end('the caller listens no more');
    }
  }

  /** The caller's messages on their way to the server. */
  async #pump(
    messages: AsyncIterable<unknown>,
    method: MethodDefinition,
    up: Pipe,
    down: Pipe,
  ): Promise<void> {
    const { latencyMs } = this.#weather;
    try {
      for await (const message of messages) {
        // copied, because the sender uses its buffer again
        up.send(Buffer.from(method.requestSerialize(message as never)), latencyMs);
        if (this.#weather.isPartitioned || this.#chance(this.#weather.cutShare)) {
          this.#scheduler.note(`${this.#process.name}: a stream is cut`);
          this.#break('a stream was cut');
        }
        if (!(await this.#process.gate(up.room()))) return;
      }
      up.end(latencyMs);
    } catch (error) {
      up.fail(broken('the sender gave up'));
      down.fail(error);
    }
  }

  #isGone(): boolean {
    return this.#isBroken || this.#weather.isPartitioned;
  }

  async #serveStream(
    name: string,
    method: MethodDefinition,
    handler: Loose,
    up: Pipe,
    down: Pipe,
    signal: AbortSignal,
    argument: unknown,
  ): Promise<void> {
    const { process } = this.#server;
    if (process.isDead) return;
    const { latencyMs } = this.#weather;
    let request: unknown;
    const call = {};
    if (method.requestStream) {
      request = mapped(up, (bytes) => {
        const message = method.requestDeserialize(bytes);
        this.#endpoint.onRequest({ call, isRepeated: false, method: name, request: message });
        return message;
      });
    } else request = method.requestDeserialize(method.requestSerialize(argument as never));
    try {
      const answers = handler(request, { caller: this.#caller, signal }) as AsyncIterable<unknown>;
      for await (const answer of answers) {
        if (signal.aborted) return;
        this.#endpoint.onAnswer({
          call,
          isRepeated: false,
          method: name,
          request,
          response: answer,
        });
        down.send(Buffer.from(method.responseSerialize(answer as never)), latencyMs);
        if (this.#chance(this.#weather.cutShare)) this.#break('a stream was cut');
      }
      down.end(latencyMs);
    } catch (error) {
      const told = this.#translated(name, error);
      await this.#latency();
      down.fail(told);
    }
  }
}

async function* single(answer: unknown): AsyncGenerator {
  yield await answer;
}

async function* mapped(bytes: Pipe, map: (value: Buffer) => unknown): AsyncGenerator {
  try {
    for (;;) {
      const next = await bytes.next();
      if (next.done) return;
      yield map(next.value);
    }
  } finally {
    bytes.close();
  }
}
