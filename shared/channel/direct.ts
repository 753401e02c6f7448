// Connects a client to handlers inside one process. Messages are encoded and decoded as on the wire,
// so that neither side ever shares an object with the other; nothing is encrypted.

import { DrError } from '../errors.js';
import type {
  CallContext,
  Caller,
  CallOptions,
  Handlers,
  MethodDefinition,
  ServiceClient,
  ServiceDefinition,
} from './service.js';

type Loose = (argument: unknown, second: unknown) => unknown;

/** A client of `handlers` whose calls arrive as `caller`'s. */
export function connectDirectly<D extends ServiceDefinition>(
  definition: D,
  handlers: Handlers<D>,
  caller: Caller,
): ServiceClient<D> {
  const calls = Object.entries(definition).map(([name, method]) => {
    const handler = (handlers as Readonly<Record<string, unknown>>)[name] as Loose;
    return [name, directCall(method, handler, caller)];
  });
  // built from the same keys as the definition
  return Object.fromEntries(calls) as ServiceClient<D>;
}

function directCall(method: MethodDefinition, handler: Loose, caller: Caller): Loose {
  // Copied, because a sender may use its buffer again once the next message is asked for.
  const request = (value: unknown): unknown =>
    method.requestDeserialize(Buffer.from(method.requestSerialize(value as never)));
  const response = (value: unknown): unknown =>
    method.responseDeserialize(Buffer.from(method.responseSerialize(value as never)));
  return (argument, second) => {
    const { signal = new AbortController().signal } = (second ?? {}) as CallOptions;
    const context: CallContext = { caller, signal };
    const received = method.requestStream
      ? mapped(argument as AsyncIterable<unknown>, request, signal)
      : request(argument);
    if (method.responseStream) {
      return mapped(handler(received, context) as AsyncIterable<unknown>, response, signal);
    }
    return (async () => response(await handler(received, context)))();
  };
}

async function* mapped(
  values: AsyncIterable<unknown>,
  map: (value: unknown) => unknown,
  signal: AbortSignal,
): AsyncGenerator {
  for await (const value of values) {
    if (signal.aborted) throw new DrError('E_CHANNEL', 'the call was cancelled');
    yield map(value);
  }
}
