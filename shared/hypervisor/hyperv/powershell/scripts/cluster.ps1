# The failover cluster of the host (operations/cluster.ts).

function Get-HvdrGroup {
    param($VmId)
    $vm = Get-HvdrVm -VmId $VmId
    # the cluster's cmdlets are there on nodes only
    if (-not $vm.IsClustered) {
        return $null
    }
    return Get-ClusterGroup -VMId $vm.Id
}

function Get-HvdrGroupOrRefuse {
    param($VmId)
    $group = Get-HvdrGroup -VmId $VmId
    if ($null -eq $group) {
        throw (New-HvdrMissing -Message "the VM $VmId has no role in the cluster")
    }
    return $group
}

function Invoke-HvdrClusterGroup {
    param($Arguments)
    $group = Get-HvdrGroup -VmId $Arguments.vmId
    if ($null -eq $group) {
        return @{
            'group' = $null
        }
    }
    return @{
        'group' = @{
            'name' = $group.Name
            'ownerNode' = $group.OwnerNode.Name
            'state' = $group.State.ToString()
        }
    }
}

# Asked on nodes only.
function Invoke-HvdrClusterSharedVolumes {
    param($Arguments)
    $folders = @()
    foreach ($volume in @(Get-ClusterSharedVolume)) {
        foreach ($part in @($volume.SharedVolumeInfo)) {
            $folders += [string]$part.FriendlyVolumeName
        }
    }
    return @{
        'folders' = @($folders)
    }
}

function Invoke-HvdrClusterAddRole {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $null = Add-ClusterVirtualMachineRole -VMId $vm.Id -Name $Arguments.name
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrClusterRemoveRole {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $null = Remove-ClusterGroup -VMId $vm.Id -RemoveResources -Force -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrClusterStart {
    param($Arguments)
    $group = Get-HvdrGroupOrRefuse -VmId $Arguments.vmId
    # wait 0: what becomes of it is looked at by the caller
    $null = Start-ClusterGroup -InputObject $group -Wait 0
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrClusterStop {
    param($Arguments)
    $group = Get-HvdrGroupOrRefuse -VmId $Arguments.vmId
    $null = Stop-ClusterGroup -InputObject $group -Wait 0
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrClusterUpdateRole {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $null = Update-ClusterVirtualMachineConfiguration -VMId $vm.Id
    return @{
        'done' = 'yes'
    }
}
