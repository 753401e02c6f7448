// The typed error that an action must end with.

import { DrError } from '../../shared/errors.js';

/** What `action` was refused with; fails when it succeeds or throws anything but a DrError. */
export async function refusal(action: () => Promise<unknown>): Promise<DrError> {
  try {
    await action();
  } catch (error) {
    if (error instanceof DrError) return error;
    throw error;
  }
  throw new Error('was not refused');
}
