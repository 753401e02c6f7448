# The host itself (operations/host.ts), and the sign of life that lane.ts asks for.

function Invoke-HvdrHostPing {
    param($Arguments)
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrHostGet {
    param($Arguments)
    $vmHost = Get-VMHost
    $versions = @()
    foreach ($supported in @(Get-VMHostSupportedVersion)) {
        $versions += $supported.Version
    }
    $templates = @()
    foreach ($template in @($vmHost.SecureBootTemplates)) {
        $templates += @{
            'id' = $template.Id.ToString()
            'name' = [string]$template.Name
        }
    }
    $node = $null
    foreach ($service in @(Get-Service -Name 'ClusSvc*')) {
        if ($service.Status.ToString() -eq 'Running') {
            $node = [System.Environment]::MachineName
        }
    }
    return @{
        'computerName' = [System.Environment]::MachineName
        'osVersion' = [System.Environment]::OSVersion.Version.ToString(3)
        'defaultVmFolder' = $vmHost.VirtualMachinePath
        'defaultDiskFolder' = $vmHost.VirtualHardDiskPath
        'vmVersions' = @($versions | Sort-Object | ForEach-Object -Process { $_.ToString() })
        'secureBootTemplates' = @($templates)
        'clusterNode' = $node
    }
}
