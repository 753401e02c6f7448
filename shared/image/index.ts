// Disk images as files: which format a file has, how to open it, how to turn one into another.

export { checkTarget, type TargetRequest } from './check-target.js';
export {
  convertImage,
  withSource,
  writeImage,
  type ConvertOptions,
  type ConvertResult,
  type ImageEnvironment,
  type TargetFormat,
} from './convert.js';
export {
  convertVhdxStream,
  rawChunks,
  streamImage,
  type OutgoingStream,
} from './convert-stream.js';
export { copyNonZero, type CopyOptions, type CopyProgress, type CopyTarget } from './copy-disk.js';
export { formatOf, type ForeignFormat, type ImageFormat, type OwnFormat } from './image-format.js';
export { detectImageFormat, openImage, type OpenImageOptions } from './open-image.js';
export { runTool, type RunTool, type ToolResult } from './qemu-img.js';
export { RawTarget } from './raw-target.js';
