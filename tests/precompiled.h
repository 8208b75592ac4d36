// What most tests include, read by the compiler once instead of for each of them.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <thread>

#include <catch2/catch.hpp>

#include "kvm/precompiled.h"
