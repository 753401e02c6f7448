// What a service is, apart from how its bytes travel: typed methods from ts-proto's definitions,
// handlers on one side, clients on the other. The sealed channel connects the two over a network;
// connectDirectly() (direct.ts) connects them inside one process, for tests and the simulation.
// Handlers and clients know nothing of sessions, keys or gRPC.

/** One method of a ts-proto service definition (`outputServices=grpc-js`). */
export interface MethodDefinition {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  // methods are written as functions of `never` and `unknown` so that every generated one fits
  readonly requestSerialize: (value: never) => Buffer;
  readonly requestDeserialize: (value: Buffer) => unknown;
  readonly responseSerialize: (value: never) => Buffer;
  readonly responseDeserialize: (value: Buffer) => unknown;
}

export type ServiceDefinition = Readonly<Record<string, MethodDefinition>>;

export type Role = 'source' | 'viewer' | 'drill' | 'operator';

/** Who calls, as the receiver's own copy of the key says; never what the peer claims. */
export interface Caller {
  readonly principal: string;
  readonly keyId: string;
  readonly role: Role;
  /** Which VM names the key may newly protect; `*` and `?` as wildcards. */
  readonly vmPattern: string;
  /** Address for logs. */
  readonly address: string;
}

export interface CallContext {
  readonly caller: Caller;
  /** Aborts when the call was cancelled, its sealed deadline passed, or its session ended. */
  readonly signal: AbortSignal;
}

type RequestOf<M extends MethodDefinition> = ReturnType<M['requestDeserialize']>;
type ResponseOf<M extends MethodDefinition> = ReturnType<M['responseDeserialize']>;

/**
 * The server's side of a method. A unary request is a value, a stream an iterable that ends only
 * after the peer's sealed FINAL: a stream that breaks off throws instead. What a handler throws
 * reaches the caller as a DrError with the same code, message, done, hint and context.
 */
export type Handler<M extends MethodDefinition> = M['requestStream'] extends true
  ? M['responseStream'] extends true
    ? (requests: AsyncIterable<RequestOf<M>>, context: CallContext) => AsyncIterable<ResponseOf<M>>
    : (requests: AsyncIterable<RequestOf<M>>, context: CallContext) => Promise<ResponseOf<M>>
  : M['responseStream'] extends true
    ? (request: RequestOf<M>, context: CallContext) => AsyncIterable<ResponseOf<M>>
    : (request: RequestOf<M>, context: CallContext) => Promise<ResponseOf<M>>;

export type Handlers<D extends ServiceDefinition> = { readonly [K in keyof D]: Handler<D[K]> };

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Travels sealed: the receiver ends the call after so long. Default: none. */
  readonly deadlineMs?: number | undefined;
}

/**
 * The client's side of a method. A unary call and the end of a response stream follow from the
 * peer's sealed FINAL and nothing else.
 * @throws DrError the peer's own (sealed), or E_CHANNEL when the transport failed
 */
export type MethodCall<M extends MethodDefinition> = M['requestStream'] extends true
  ? M['responseStream'] extends true
    ? (requests: AsyncIterable<RequestOf<M>>, options?: CallOptions) => AsyncIterable<ResponseOf<M>>
    : (requests: AsyncIterable<RequestOf<M>>, options?: CallOptions) => Promise<ResponseOf<M>>
  : M['responseStream'] extends true
    ? (request: RequestOf<M>, options?: CallOptions) => AsyncIterable<ResponseOf<M>>
    : (request: RequestOf<M>, options?: CallOptions) => Promise<ResponseOf<M>>;

export type ServiceClient<D extends ServiceDefinition> = {
  readonly [K in keyof D]: MethodCall<D[K]>;
};
