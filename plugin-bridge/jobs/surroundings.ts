// What the command line and a job have in common, as a job has it.

import path from 'node:path';
import type { Surroundings } from '../../shared/surroundings.js';
import type { JobPorts } from '../backend.js';

/** Paths of a job are absolute; whoever started it has forbidden core dumps. */
export function surroundingsOf(ports: JobPorts): Surroundings {
  const { files, clock, random, environment, log } = ports;
  return {
    files,
    clock,
    random,
    environment,
    folder: path.parse(process.execPath).root,
    log: () => Promise.resolve(log),
    keepSecrets: () => Promise.resolve(),
  };
}
