// The arguments of an operation, as the other side reads them.

import { guid, type Guid } from '../../../shared/bytes/index.js';
import type {
  Argument,
  Arguments,
} from '../../../shared/hypervisor/hyperv/powershell/operation.js';
import type { DiskRecord } from '../../../shared/hypervisor/lab/record.js';

export class Given {
  readonly #args: Arguments;

  constructor(args: Arguments) {
    this.#args = args;
  }

  get vmId(): Guid {
    return this.guid('vmId');
  }

  get place(): Pick<DiskRecord, 'controller' | 'controllerNumber' | 'controllerLocation'> {
    return {
      controller: this.text('controllerType') === 'IDE' ? 'ide' : 'scsi',
      controllerNumber: this.number('controllerNumber'),
      controllerLocation: this.number('controllerLocation'),
    };
  }

  guid(name: string): Guid {
    return guid(this.text(name));
  }

  text(name: string): string {
    return this.optionalText(name) ?? wrong(name, this.#args[name]);
  }

  optionalText(name: string): string | undefined {
    const value = this.#args[name];
    return typeof value === 'string' ? value : undefined;
  }

  number(name: string): number {
    return this.optionalNumber(name) ?? wrong(name, this.#args[name]);
  }

  optionalNumber(name: string): number | undefined {
    const value = this.#args[name];
    return typeof value === 'number' ? value : undefined;
  }

  flag(name: string): boolean {
    return this.#args[name] === true;
  }

  texts(name: string): string[] {
    const value = this.#args[name];
    return Array.isArray(value) ? value.map(String) : wrong(name, value);
  }
}

export function wrong(name: string, value: Argument | undefined): never {
  throw new Error(`the argument ${name} is ${JSON.stringify(value)}`);
}
