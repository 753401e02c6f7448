# Disk files by way of vmms (operations/disks.ts).

function Invoke-HvdrDiskGet {
    param($Arguments)
    if (-not (Test-Path -LiteralPath $Arguments.path)) {
        throw (New-HvdrMissing -Message "there is no file $($Arguments.path)")
    }
    $vhd = Get-VHD -Path $Arguments.path
    $parentPath = $null
    if (-not [string]::IsNullOrEmpty($vhd.ParentPath)) {
        $parentPath = $vhd.ParentPath
    }
    return @{
        'diskId' = $vhd.DiskIdentifier
        'sizeBytes' = $vhd.Size.ToString()
        'logicalSectorBytes' = [int]$vhd.LogicalSectorSize
        'physicalSectorBytes' = [int]$vhd.PhysicalSectorSize
        'format' = $vhd.VhdFormat.ToString()
        'parentPath' = $parentPath
    }
}

function Invoke-HvdrDiskChanges {
    param($Arguments)
    $service = Get-HvdrService -ClassName 'Msvm_ImageManagementService'
    $out = Invoke-CimMethod -InputObject $service -MethodName 'GetVirtualDiskChanges' -Arguments @{
        'Path' = $Arguments.path
        'LimitId' = $Arguments.trackingId
        'ByteOffset' = [uint64]$Arguments.offsetBytes
        'ByteLength' = [uint64]$Arguments.lengthBytes
    }
    $offsets = @(ConvertTo-HvdrList -Value (Get-HvdrOut -Out $out -Name 'ChangedByteOffsets'))
    $lengths = @(ConvertTo-HvdrList -Value (Get-HvdrOut -Out $out -Name 'ChangedByteLengths'))
    if ($offsets.Count -ne $lengths.Count) {
        throw 'the offsets of the changed ranges are not as many as their lengths'
    }
    $ranges = New-Object -TypeName 'System.Collections.ArrayList'
    for ($index = 0; $index -lt $offsets.Count; $index += 1) {
        $null = $ranges.Add(@{
            'offsetBytes' = $offsets[$index].ToString()
            'lengthBytes' = $lengths[$index].ToString()
        })
    }
    $answer = Get-HvdrVerdict -Out $out
    $processed = Get-HvdrOut -Out $out -Name 'ProcessedByteLength'
    $answer['processedBytes'] = ([uint64]$processed).ToString()
    $answer['ranges'] = $ranges.ToArray()
    return $answer
}
