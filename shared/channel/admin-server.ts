// Health and reflection for monitoring and for people with a gRPC client: on a listener of their
// own, on loopback only, in clear, with answers that tell nothing but whether the receiver serves
// and how its messages look. No key, no name of a VM, no state is to be had here.

import { isIP } from 'node:net';
import {
  logVerbosity,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerWritableStream,
  setLogVerbosity,
  status,
} from '@grpc/grpc-js';
import { DrError } from '../errors.js';
import { type AdminListener, type AdminOptions, loopbackAddress } from './admin-address.js';
import { PROTO_FILES, type ProtoFile } from './gen/descriptors.js';
import {
  type HealthCheckRequest,
  type HealthCheckResponse,
  HealthCheckResponse_ServingStatus as ServingStatus,
  type HealthServer,
  HealthService,
} from './gen/grpc/health/v1/health.js';
import {
  type ServerReflectionRequest,
  type ServerReflectionResponse,
  type ServerReflectionServer,
  ServerReflectionService,
} from './gen/grpc/reflection/v1/reflection.js';

const MESSAGE_BYTES_MAX = 4096;
const STREAMS_MAX = 8;

/** @throws DrError E_PARAMETER (not loopback), E_IO */
export async function startAdmin(options: AdminOptions): Promise<AdminListener> {
  const host = loopbackAddress(options.host);
  // it would write to stderr, past our log; what matters reaches us as errors
  setLogVerbosity(logVerbosity.NONE);
  const server = new Server({
    'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
    'grpc.max_concurrent_streams': STREAMS_MAX,
    'grpc.enable_channelz': 0,
  });
  const health = new Health();
  server.addService(HealthService, health.handlers);
  server.addService(ServerReflectionService, { serverReflectionInfo: reflect } satisfies {
    [K in keyof ServerReflectionServer]: ServerReflectionServer[K];
  });
  const address = isIP(host) === 6 ? `[${host}]` : host;
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(
      `${address}:${options.port}`,
      ServerCredentials.createInsecure(),
      (error, bound) => {
        if (error === null) resolve(bound);
        else {
          reject(
            new DrError('E_IO', `cannot listen on ${host}:${options.port}: ${error.message}`, {
              context: { host, port: options.port },
              hint: 'Name a port of this machine that is free.',
              cause: error,
            }),
          );
        }
      },
    );
  });
  return {
    host,
    port,
    setServing: (isServing) => {
      health.set(isServing);
    },
    close: () => {
      health.endWatches();
      server.forceShutdown();
      return Promise.resolve();
    },
  };
}

const SERVED_NAMES: ReadonlySet<string> = new Set([
  '',
  ...PROTO_FILES.flatMap(({ services }) => services),
]);

class Health {
  readonly #watches = new Set<ServerWritableStream<HealthCheckRequest, HealthCheckResponse>>();
  #isServing = true;

  readonly handlers: HealthServer = {
    check: (call, callback) => {
      if (SERVED_NAMES.has(call.request.service)) callback(null, { status: this.#status });
      else
        callback({ code: status.NOT_FOUND, details: 'unknown service', metadata: new Metadata() });
    },
    watch: (call) => {
      if (!SERVED_NAMES.has(call.request.service)) {
        call.write({ status: ServingStatus.SERVICE_UNKNOWN });
        return;
      }
      this.#watches.add(call);
      call.on('cancelled', () => {
        this.#watches.delete(call);
      });
      call.write({ status: this.#status });
    },
  };

  get #status(): ServingStatus {
    return this.#isServing ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
  }

  set(isServing: boolean): void {
    if (isServing === this.#isServing) return;
    this.#isServing = isServing;
    for (const call of this.#watches) call.write({ status: this.#status });
  }

  endWatches(): void {
    for (const call of this.#watches) call.end();
    this.#watches.clear();
  }
}

function reflect(
  call: ServerDuplexStream<ServerReflectionRequest, ServerReflectionResponse>,
): void {
  call.on('data', (request: ServerReflectionRequest) => {
    const answer: ServerReflectionResponse = {
      validHost: request.host,
      originalRequest: request,
      messageResponse: answerTo(request.messageRequest),
    };
    // one answer a question: who does not read them gets no more questions in
    if (!call.write(answer)) {
      call.pause();
      call.once('drain', () => {
        call.resume();
      });
    }
  });
  call.on('end', () => {
    call.end();
  });
}

function answerTo(
  request: ServerReflectionRequest['messageRequest'],
): ServerReflectionResponse['messageResponse'] {
  switch (request?.$case) {
    case 'listServices': {
      const names = PROTO_FILES.flatMap(({ services }) => services);
      return {
        $case: 'listServicesResponse',
        value: { service: names.map((name) => ({ name })) },
      };
    }
    case 'fileByFilename':
      return fileAnswer(PROTO_FILES.find(({ name }) => name === request.value));
    case 'fileContainingSymbol':
      return fileAnswer(PROTO_FILES.find(({ symbols }) => symbols.includes(request.value)));
    case 'allExtensionNumbersOfType':
      return PROTO_FILES.some(({ symbols }) => symbols.includes(request.value))
        ? {
            $case: 'allExtensionNumbersResponse',
            value: { baseTypeName: request.value, extensionNumber: [] },
          }
        : notFound();
    case 'fileContainingExtension':
    case undefined:
      return notFound();
  }
}

function notFound(): ServerReflectionResponse['messageResponse'] {
  return {
    $case: 'errorResponse',
    value: { errorCode: status.NOT_FOUND, errorMessage: 'not found' },
  };
}

/** The file and all that it imports. */
function fileAnswer(file: ProtoFile | undefined): ServerReflectionResponse['messageResponse'] {
  if (file === undefined) return notFound();
  const wanted = [file.name];
  for (const name of wanted) {
    const imports = PROTO_FILES.find((candidate) => candidate.name === name)?.imports ?? [];
    for (const imported of imports) if (!wanted.includes(imported)) wanted.push(imported);
  }
  return {
    $case: 'fileDescriptorResponse',
    value: {
      fileDescriptorProto: wanted.flatMap((name) =>
        PROTO_FILES.filter((candidate) => candidate.name === name).map(({ base64 }) =>
          Buffer.from(base64, 'base64'),
        ),
      ),
    },
  };
}
