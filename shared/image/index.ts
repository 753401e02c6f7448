// Disk images as files: which format a file has, how to open it, how to turn one into another.

export {
  buildTarget,
  type TargetFormat,
  type TargetGeometry,
  type TargetOptions,
} from './build-target.js';
export { checkTarget, type TargetRequest } from './check-target.js';
export {
  convertImage,
  withSource,
  writeImage,
  type ConvertOptions,
  type ConvertResult,
  type ImageEnvironment,
} from './convert.js';
export {
  convertVhdxStream,
  rawChunks,
  streamImage,
  type OutgoingStream,
} from './convert-stream.js';
export type { CopyOptions, CopyProgress, CopyTarget } from './copy-disk.js';
export { flattenVhdx, type FlattenSeams } from './flatten.js';
export type { ForeignFormat, ImageFormat, OwnFormat } from './image-format.js';
export { detectImageFormat, openImage, type OpenImageOptions } from './open-image.js';
export { runTool, type RunTool, type ToolResult } from './qemu-img.js';
export { exactRoomOfRaw, roomOfImage, type ImageRoom } from './room.js';
