// A receiver of the demo. Started again it listens where it did, so that whoever waits for it finds it.

import { Service } from './demo-run.js';

export interface ReceiverPlace {
  readonly folder: string;
  readonly store: string;
  /** The lab host of its site. */
  readonly lab: string;
  readonly keys: string;
}

export class DemoReceiver {
  readonly #place: ReceiverPlace;
  #service: Service | undefined;
  #port = 0;

  constructor(place: ReceiverPlace) {
    this.#place = place;
  }

  /** 0 before the first start. */
  get port(): number {
    return this.#port;
  }

  /** Returns the command as it is told. @throws DrError E_TOOL_FAILED when it does not start */
  async start(): Promise<string> {
    const { folder, store, lab, keys } = this.#place;
    const own = ['receiver', '--store', store, '--host', `lab:${lab}`];
    const listen = ['--listen', `127.0.0.1:${this.#port}`, '--psk-file', keys];
    this.#service = await Service.start([...own, ...listen], folder);
    this.#port = this.#service.port;
    return `hvdr receiver --store ${store} --listen 127.0.0.1:${this.#port} …`;
  }

  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    await this.#service?.stop(signal);
  }

  /** How it is reached. */
  access(): string[] {
    return ['--dr-host', '127.0.0.1', '--dr-port', String(this.#port)];
  }
}
