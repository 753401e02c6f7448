// One call on the receiver's side: opens what arrives, runs the handler, seals what it says and how
// it ended. The handler is not called before the peer's first record has opened and the role of its
// key allows the method.

import type { ServerHttp2Stream } from 'node:http2';
import type { Clock, Random } from '../clock.js';
import { DrError } from '../errors.js';
import type { Log } from '../log.js';
import { decode, single } from './call-values.js';
import { transportFailed } from './grpc-wire.js';
import { CALL_AGE_MAX_MS, UNAUTHENTICATED } from './limits.js';
import type { ReceiverSession, RunningCall } from './receiver-session.js';
import {
  type CallIdentity,
  RecordOpener,
  RecordSealer,
  SALT_BYTES,
  UnopenedRecord,
} from './records.js';
import { type Bulk, SealedReceiver, SealedSender } from './sealed-stream.js';
import { slept } from './slept.js';
import type { CallContext, MethodDefinition, Role } from './service.js';

/** A handler without its types: a value or an iterable in, a promise or an iterable out. */
export type LooseHandler = (argument: unknown, context: CallContext) => unknown;

export interface ServedMethod {
  readonly definition: MethodDefinition;
  readonly handler: LooseHandler;
  readonly roles: readonly Role[];
}

export interface ServerCallOptions {
  readonly stream: ServerHttp2Stream;
  readonly session: ReceiverSession;
  readonly method: ServedMethod;
  readonly callId: bigint;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** The first record opened. */
  readonly onOpened: (bulk: Bulk) => void;
  /** A record did not open: the session is over. */
  readonly onForged: (error: DrError) => void;
}

export async function serveCall(options: ServerCallOptions): Promise<void> {
  const call = new ServerCall(options);
  options.session.started(call);
  try {
    await call.run();
  } finally {
    options.session.finished(call);
  }
}

class ServerCall implements RunningCall {
  readonly #options: ServerCallOptions;
  readonly #receiver: SealedReceiver;
  readonly #sender: SealedSender;
  readonly #abort = new AbortController();
  readonly #over = new AbortController();

  constructor(options: ServerCallOptions) {
    this.#options = options;
    const { stream, session, method, callId, random } = options;
    const identity: CallIdentity = {
      ...session.facts,
      sessionId: session.facts.id,
      method: method.definition.path,
      callId,
    };
    this.#receiver = new SealedReceiver(stream, new RecordOpener(identity, 'c2s'));
    const salt = random.fill(Buffer.alloc(SALT_BYTES));
    this.#sender = new SealedSender(stream, new RecordSealer(identity, salt));
    // a reset is told at once; the stream may take a while to close
    stream.on('aborted', () => {
      this.end(transportFailed('the other side reset the call'));
    });
    stream.on('close', () => {
      this.end(transportFailed('the call broke off'));
    });
  }

  end(reason: DrError): void {
    this.#receiver.fail(reason);
    if (!this.#abort.signal.aborted) this.#abort.abort(reason);
    if (this.#options.session.ended !== undefined) this.#sender.fail(reason);
  }

  async run(): Promise<void> {
    const { stream, onOpened, onForged } = this.#options;
    try {
      const { deadlineMs, bulk } = await this.#receiver.opening();
      onOpened(bulk);
      stream.respond(
        { ':status': 200, 'content-type': 'application/grpc' },
        { waitForTrailers: true },
      );
      stream.on('wantTrailers', () => {
        stream.sendTrailers({ 'grpc-status': '0' });
      });
      void this.#limit(deadlineMs);
      const error = await this.#outcome();
      if (error instanceof UnopenedRecord) onForged(error);
      await this.#sender.final(error);
      stream.end();
      void this.#closeLate();
    } catch (error) {
      // nothing can be said to the peer any more
      if (error instanceof UnopenedRecord) onForged(error);
      if (!stream.destroyed) stream.close(CANCEL);
    } finally {
      this.#over.abort();
      this.#receiver.wipe();
      this.#sender.wipe();
    }
  }

  /** Runs the handler. Returns what FINAL has to say: undefined, or an error. */
  async #outcome(): Promise<unknown> {
    const { method, session, log } = this.#options;
    const { caller } = session.facts;
    try {
      if (!method.roles.includes(caller.role)) {
        throw new DrError('E_AUTH', `a key of the role ${caller.role} may not do this`, {
          context: { keyId: caller.keyId, role: caller.role, method: method.definition.path },
          hint: `It takes one of these roles: ${method.roles.join(', ')}.`,
        });
      }
      const { definition, handler } = method;
      const context: CallContext = { caller, signal: this.#abort.signal };
      const requests = this.#requests();
      const argument = definition.requestStream ? requests : await single(requests);
      const answer = handler(argument, context);
      if (definition.responseStream) {
        for await (const value of answer as AsyncIterable<never>) {
          this.#refuseEnded();
          await this.#sender.message(definition.responseSerialize(value));
        }
      } else {
        await this.#sender.message(definition.responseSerialize((await answer) as never));
      }
      return undefined;
    } catch (error) {
      if (!(error instanceof DrError)) {
        log.error('channel.call-failed', { method: method.definition.path, error });
      }
      return error;
    }
  }

  /** What the peer sends, decoded; ends after its FINAL and throws on everything else. */
  async *#requests(): AsyncGenerator {
    for (;;) {
      const received = await this.#receiver.next();
      if (received.kind === 'final') {
        if (received.final.error !== undefined) throw received.final.error;
        return;
      }
      yield decode(this.#options.method.definition.requestDeserialize, received.bytes);
    }
  }

  #refuseEnded(): void {
    const reason: unknown = this.#abort.signal.aborted ? this.#abort.signal.reason : undefined;
    if (reason instanceof DrError) throw reason;
  }

  /** Ends the call at the initiator's deadline, or when it has run for a day. */
  async #limit(deadlineMs: number | undefined): Promise<void> {
    const { clock } = this.#options;
    const isAsked = deadlineMs !== undefined && deadlineMs < CALL_AGE_MAX_MS;
    const durationMs = isAsked ? deadlineMs : CALL_AGE_MAX_MS;
    if (!(await slept(clock, durationMs, this.#over.signal))) return;
    this.end(
      isAsked
        ? new DrError('E_STALLED', `the call was not done after ${durationMs} ms`, {
            done: 'the receiver ended it',
          })
        : transportFailed('the call has run for a day'),
    );
  }

  /** A peer that does not end its side after our FINAL is not listened to for ever. */
  async #closeLate(): Promise<void> {
    const { stream, clock } = this.#options;
    const closed = new AbortController();
    stream.on('close', () => {
      closed.abort();
    });
    if (stream.destroyed) return;
    // what it still sends is not kept
    stream.removeAllListeners('data');
    stream.resume();
    if (await slept(clock, UNAUTHENTICATED.timeMs, closed.signal)) stream.close(CANCEL);
  }
}

const CANCEL = 8;
