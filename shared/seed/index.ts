// Seed media: the disks of a VM as one sealed file, to be carried to the other site.

export {
  MEDIUM_SUFFIX,
  readMediumHeader,
  SeedMediumReader,
  writeSeedMedium,
} from './medium-file.js';
