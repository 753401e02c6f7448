export { crc32c } from './crc32c.js';
export {
  guid,
  guidFromWire,
  guidToWire,
  parseGuid,
  randomGuid,
  readGuid,
  writeGuid,
  ZERO_GUID,
  type Guid,
} from './guid.js';
export { releaseMemory } from './release-memory.js';
