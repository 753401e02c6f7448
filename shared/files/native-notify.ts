// Messages to systemd (sd_notify(3)): datagrams to the AF_UNIX socket that it names in the environment. Node has no
// datagrams of that family and libsystemd is one more library to find; these are three calls of the C library.

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** Room for the path in sockaddr_un. */
const PATH_BYTES_MAX = 107;

/** Sends one message; returns the name of the error when the system refused, else undefined. */
export type SendNotice = (text: string) => string | undefined;

/**
 * Opens the way to `address`: a path, or `@` and an abstract name. undefined when the address is neither, or where there
 * is no such socket (not Linux). A message never waits for the reader: one that does not take it loses it.
 */
export async function openNotifySocket(address: string): Promise<SendNotice | undefined> {
  const name = Buffer.from(address, 'utf8');
  const isAbstract = address.startsWith('@');
  if (process.platform !== 'linux' || (!isAbstract && !address.startsWith('/'))) return undefined;
  if (name.length > PATH_BYTES_MAX) return undefined;
  const { default: koffi } = await import('koffi');
  const library = koffi.load(null);
  const socket = library.func('int socket(int domain, int type, int protocol)');
  // ssize_t is 64 bits wide on every system that we run on
  const sendto = library.func(
    'int64_t sendto(int socket, const void *bytes, size_t length, int flags, const void *address, uint32_t addressLength)',
  );
  const close = library.func('int close(int descriptor)');
  const names = new Map(Object.entries(koffi.os.errno).map(([code, number]) => [number, code]));
  const failure = (): string => names.get(koffi.errno()) ?? `errno ${koffi.errno()}`;

  const socketAddress = Buffer.alloc(2 + name.length + (isAbstract ? 0 : 1));
  socketAddress.writeUInt16LE(AF_UNIX, 0);
  name.copy(socketAddress, 2);
  if (isAbstract) socketAddress[2] = 0;
  return (text) => {
    const descriptor = Number(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (descriptor < 0) return failure();
    const bytes = Buffer.from(text, 'utf8');
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    const sent: unknown = sendto(
      descriptor,
      bytes,
      bytes.length,
      flags,
      socketAddress,
      socketAddress.length,
    );
    const failed = Number(sent) === bytes.length ? undefined : failure();
    close(descriptor);
    return failed;
  };
}
