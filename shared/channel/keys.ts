// Pre-shared keys (channel.md § 1).

import type { KeyObject } from 'node:crypto';
import { DrError } from '../errors.js';
import type { FileSystem } from '../files/index.js';
import type { Role } from './service.js';

export interface PreSharedKey {
  readonly keyId: string;
  readonly principal: string;
  readonly role: Role;
  /** Which VM names the key may newly protect. */
  readonly vmPattern: string;
  readonly createdAtMs: number;
  /** 32 bytes. */
  readonly secret: KeyObject;
}

/** What keys are read with. */
export interface KeyEnvironment {
  readonly fs: FileSystem;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** The keys that a receiver accepts. */
export interface KeyRing {
  readonly keys: readonly PreSharedKey[];
}

/**
 * The key that `reference` names: a file, `file:PATH`, `env:NAME` (whose value is a key's text).
 * @throws DrError E_KEY_FILE, E_NOT_FOUND
 */
export function loadKey(reference: string, _environment: KeyEnvironment): Promise<PreSharedKey> {
  return Promise.reject(new DrError('E_KEY_FILE', `no key can be read from ${reference}`));
}

/** A ring from key files and folders of key files. @throws DrError E_KEY_FILE, E_NOT_FOUND */
export function loadKeyRing(
  paths: readonly string[],
  _environment: KeyEnvironment,
): Promise<KeyRing> {
  return Promise.reject(new DrError('E_KEY_FILE', `no key can be read from ${paths.join(', ')}`));
}
