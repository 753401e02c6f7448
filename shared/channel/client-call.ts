// One call on the initiator's side. What it answers follows from the receiver's sealed FINAL and
// nothing else: an end without it is a failed transport, whatever gRPC says.

import type { ClientHttp2Stream } from 'node:http2';
import type { Clock } from '../clock.js';
import { DrError } from '../errors.js';
import { decode, single } from './call-values.js';
import type { ClientSession } from './client-session.js';
import { transportFailed } from './grpc-wire.js';
import { UNAUTHENTICATED } from './limits.js';
import { RecordOpener, RecordSealer, UnopenedRecord } from './records.js';
import { type Bulk, SealedReceiver, SealedSender } from './sealed-stream.js';
import { slept } from './slept.js';
import type { CallOptions, MethodDefinition } from './service.js';

/** After the deadline the receiver's own word is waited for so long. */
const DEADLINE_GRACE_MS = 5000;
const CANCEL = 8;

export interface ClientCallOptions {
  readonly method: MethodDefinition;
  /** A value, or an iterable when the method streams its requests. */
  readonly argument: unknown;
  readonly options: CallOptions;
  readonly clock: Clock;
  /** The session that the call goes over. */
  session(): Promise<ClientSession>;
  /** A record did not open: the session is over. */
  onForged(session: ClientSession): void;
}

/** The answers of a call, as they come. Nothing happens before the first one is asked for. */
export async function* streamResponses(call: ClientCallOptions): AsyncGenerator {
  const { method, options, clock } = call;
  if (isCancelled(options)) throw cancelled(options.signal);
  const session = await call.session();
  const { stream, identity } = session.startCall(method.path);
  const over = new AbortController();
  stream.on('error', () => undefined);
  const receiver = new SealedReceiver(stream, new RecordOpener(identity, 's2c'));
  const sender = new SealedSender(stream, new RecordSealer(identity));
  const stop = (reason: Error): void => {
    receiver.fail(reason);
    sender.fail(reason);
  };
  const onAbort = (): void => {
    stop(cancelled(options.signal));
  };
  options.signal?.addEventListener('abort', onAbort, { once: true });
  if (isCancelled(options)) onAbort();
  if (options.deadlineMs !== undefined) {
    const { deadlineMs } = options;
    void slept(clock, deadlineMs + DEADLINE_GRACE_MS, over.signal).then((isLate) => {
      if (isLate) stop(new DrError('E_STALLED', `the call was not done after ${deadlineMs} ms`));
    });
  }
  void sendRequests(call, session.bulk, sender, stream, over.signal).catch(stop);
  try {
    for (;;) {
      const received = await receiver.next();
      if (received.kind === 'message') {
        yield decode(method.responseDeserialize, received.bytes);
        continue;
      }
      const { error } = received.final;
      if (error !== undefined) throw error;
      return;
    }
  } catch (error) {
    if (error instanceof UnopenedRecord) call.onForged(session);
    throw error;
  } finally {
    over.abort();
    options.signal?.removeEventListener('abort', onAbort);
    sender.fail(transportFailed('the call is over'));
    receiver.wipe();
    void finish(stream, clock);
  }
}

function isCancelled({ signal }: CallOptions): boolean {
  return signal?.aborted === true;
}

function cancelled(signal: AbortSignal | undefined): DrError {
  return new DrError('E_CHANNEL', 'the call was cancelled', { cause: signal?.reason });
}

/** As streamResponses(), for a method with one answer. */
export async function unaryResponse(call: ClientCallOptions): Promise<unknown> {
  return single(streamResponses(call));
}

/** Sends OPEN, the requests and FINAL. A failing iterable is told to the receiver, then thrown. */
async function sendRequests(
  { method, argument, options }: ClientCallOptions,
  bulk: Bulk,
  sender: SealedSender,
  stream: ClientHttp2Stream,
  over: AbortSignal,
): Promise<void> {
  const serialize = method.requestSerialize as (value: unknown) => Buffer;
  await sender.open({ deadlineMs: options.deadlineMs, bulk });
  if (!method.requestStream) {
    await sender.message(serialize(argument));
  } else {
    try {
      for await (const value of argument as AsyncIterable<unknown>) {
        // the receiver has said its last word: nobody reads the rest
        if (over.aborted) return;
        await sender.message(serialize(value));
      }
    } catch (error) {
      if (over.aborted) return;
      await sender.final(error);
      stream.end();
      throw error;
    }
  }
  if (over.aborted) return;
  await sender.final(undefined);
  stream.end();
}

/**
 * A stream whose two sides are whole may end in peace: the trailers are still on their way, though
 * not for ever. Any other is reset.
 */
async function finish(stream: ClientHttp2Stream, clock: Clock): Promise<void> {
  if (stream.destroyed) return;
  if (stream.writableEnded) {
    const closed = new AbortController();
    stream.on('close', () => {
      closed.abort();
    });
    // what still comes is not kept
    stream.removeAllListeners('data');
    stream.resume();
    if (!(await slept(clock, UNAUTHENTICATED.timeMs, closed.signal))) return;
  }
  stream.close(CANCEL);
}
