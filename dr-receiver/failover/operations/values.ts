// What was asked for with an operation, as values of the parameter table.

import { DrError } from '../../../shared/errors.js';
import {
  isParameterName,
  type ParameterValues,
  resolveParameters,
} from '../../../shared/params/index.js';

/** @throws DrError E_PARAMETER */
export function valuesOf(parameters: Readonly<Record<string, string>>): ParameterValues {
  const given = Object.entries(parameters).map(([key, value]) => {
    if (!isParameterName(key)) {
      throw new DrError('E_PARAMETER', `there is no parameter ${key.slice(0, 64)}`);
    }
    return { key, value, origin: 'flag' as const, place: `--${key.replaceAll('_', '-')}` };
  });
  return resolveParameters(given).values;
}
